//! What a worker starts again from: checkpoints, the chain's state in them, the windows' state in that.

use clickmill_ctr_window::CtrWindow;
use clickmill_ctr_window::config::Config;
use clickmill_engine::ChainState;
use clickmill_pipeline::checkpoint::Checkpoint;
use clickmill_sdk::{Guest, Params};

/// Bytes as a checkpoint, as they are and behind a head that fits them; what they hold as a chain's state.
pub fn checkpoint(data: &[u8]) {
    let sealed = sealed(data);
    for bytes in [data, &sealed] {
        if let Ok(checkpoint) = Checkpoint::decode(bytes) {
            assert_eq!(Checkpoint::decode(&checkpoint.encode()), Ok(checkpoint.clone()));
            chain_state(&checkpoint.state);
        }
    }
    chain_state(data);
}

fn chain_state(bytes: &[u8]) {
    if let Ok(state) = ChainState::from_bytes(bytes) {
        assert_eq!(state.to_bytes(), bytes, "a state reads back to its bytes");
    }
}

/// A checkpoint's body (length of the head, head, state) with the checksum that makes it one.
fn sealed(body: &[u8]) -> Vec<u8> {
    let mut out = b"CMCK\0\x01".to_vec();
    out.extend_from_slice(&crc32c::crc32c(body).to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// Few enough keys that some overflow.
const PARAMS: [(&str, &str); 2] = [("dimensions", "total,site_category,device_type"), ("max_keys", "2")];
const EVENT: &[u8] = br#"{"id":"1","click":1,"hour":"14102100","C1":1005,"banner_pos":0,"site_id":"s","site_domain":"d","site_category":"28905ebd","app_id":"a","app_domain":"b","app_category":"07d7df22","device_id":"i","device_ip":"p","device_model":"m","device_type":1,"device_conn_type":0,"C14":1,"C15":320,"C16":50,"C17":2253,"C18":2,"C19":303,"C20":-1,"C21":52,"ts":1413849600000}"#;

fn module() -> Guest<CtrWindow> {
    Guest::new(&Params::new(&PARAMS)).expect("the parameters are sound")
}

/// Bytes as a state of ctr-window, as they are and behind the checksum and the parameters that fit them: what loads is
/// what saves again, and the module goes on from it.
pub fn window_state(data: &[u8]) {
    let _ = module().load(data);
    let mut guest = module();
    if guest.load(&state_of(data)).is_err() {
        return;
    }
    let saved = guest.save().to_vec();
    let mut other = module();
    other.load(&saved).expect("what was saved loads");
    assert_eq!(other.save(), saved, "a state saves as it was loaded");
    assert_eq!((guest.watermark(), guest.closed_before()), (other.watermark(), other.closed_before()));

    let mut set = clickmill_schemas::record::RecordSetBuilder::default();
    set.push(None, EVENT, 0);
    let mut input = Vec::new();
    clickmill_sdk::record::Input::encode(&mut input, 0, set.bytes(), 0);
    for guest in [&mut guest, &mut other] {
        assert!(guest.array_map(&input).0 >= 0, "an event is judged");
        guest.advance(i64::MAX);
    }
    assert_eq!(guest.save(), other.save(), "both go on alike");
    assert_eq!(guest.emit(), other.emit());
}

/// The state with this body behind the parameters' fingerprint.
fn state_of(body: &[u8]) -> Vec<u8> {
    let config = Config::parse(|name| PARAMS.iter().find(|(known, _)| *known == name).map(|(_, value)| *value));
    let fingerprint = config.expect("the parameters are sound").fingerprint();
    let mut rest = Vec::new();
    clickmill_schemas::record::put_varint(&mut rest, fingerprint.len() as i64);
    rest.extend_from_slice(fingerprint.as_bytes());
    rest.extend_from_slice(body);
    // FNV-1a, as the module has it.
    let sum =
        rest.iter().fold(0xcbf2_9ce4_8422_2325u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    [&sum.to_be_bytes(), rest.as_slice()].concat()
}
