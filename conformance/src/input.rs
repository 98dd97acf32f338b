//! What the modules are given: generated records, the same in every run, in batches of varied sizes.

use clickmill_engine::BatchSource;
use clickmill_schemas::Offset;
use clickmill_schemas::record::RecordSetBuilder;

const SIZES: [usize; 12] = [1, 2, 0, 7, 64, 300, 1, 1_000, 33, 500, 0, 128];
const START_MS: i64 = 1_413_849_600_000;

/// What the values are like.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    /// Decimal numbers, some with white space around them.
    Numbers,
    /// No to nine words.
    Words,
    /// Any bytes, none to some thousand.
    Bytes,
    /// JSON objects of ad events, or arrays of some.
    Events { arrays: bool },
}

/// A batch.
pub struct Batch {
    pub base: u64,
    pub set: RecordSetBuilder,
    pub records: Vec<Record>,
}

/// A record as it was generated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
    pub timestamp_ms: i64,
}

impl Batch {
    pub fn new(base: u64, records: Vec<Record>) -> Self {
        let mut set = RecordSetBuilder::default();
        records.iter().for_each(|record| set.push(record.key.as_deref(), &record.value, record.timestamp_ms));
        Self { base, set, records }
    }
}

impl BatchSource for Batch {
    fn base_offset(&self) -> Offset {
        Offset(self.base)
    }
    fn base_timestamp_ms(&self) -> i64 {
        self.set.base_timestamp_ms()
    }
    fn count(&self) -> u32 {
        self.set.count()
    }
    fn records_len(&self) -> usize {
        self.set.bytes().len()
    }
    fn write_records(&self, dst: &mut [u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        dst.copy_from_slice(self.set.bytes());
        Ok(())
    }
}

/// Batches of some thousand records; about one in `bad` has the value `poison`, none where that is `None`.
pub fn batches(values: Values, poison: Option<&str>, seed: u64) -> Vec<Batch> {
    let mut random = Random(seed);
    let mut base = 40 + seed;
    let mut now = START_MS;
    let mut out = Vec::new();
    for size in SIZES {
        let records: Vec<_> = (0..size)
            .map(|_| {
                // Time goes on, and now and then back.
                now += random.below(2_000) as i64 - 300;
                let value = match poison {
                    Some(poison) if random.below(150) == 0 => poison.as_bytes().to_vec(),
                    _ => value(values, &mut random),
                };
                Record { key: key(&mut random), value, timestamp_ms: now }
            })
            .collect();
        let len = records.len() as u64;
        out.push(Batch::new(base, records));
        base += len;
    }
    out
}

fn key(random: &mut Random) -> Option<Vec<u8>> {
    match random.below(4) {
        0 => None,
        1 => Some(Vec::new()),
        _ => {
            let len = random.below(20) as usize;
            Some((0..len).map(|_| random.below(256) as u8).collect())
        }
    }
}

fn value(values: Values, random: &mut Random) -> Vec<u8> {
    match values {
        Values::Numbers => {
            let bits = random.below(60) + 1;
            let number = random.below(1 << bits) as i64 - random.below(1 << (bits / 2 + 1)) as i64;
            let pad = ["", "", "", " ", "\n"][random.below(5) as usize];
            format!("{pad}{number}{pad}").into_bytes()
        }
        Values::Words => {
            let words = ["alpha", "beta", "γάμμα", "x", "a-long-word-that-goes-on-for-a-while", "delta"];
            let count = random.below(10) as usize;
            let words: Vec<_> = (0..count).map(|_| words[random.below(words.len() as u64) as usize]).collect();
            words.join(" ").into_bytes()
        }
        Values::Bytes => {
            let len = match random.below(20) {
                0 => 0,
                1 => random.below(9_000),
                _ => random.below(300),
            };
            (0..len).map(|_| random.below(256) as u8).collect()
        }
        Values::Events { arrays: true } if random.below(3) == 0 => {
            let events: Vec<_> = (0..random.below(5)).map(|_| event(random)).collect();
            format!(" [{}]", events.join(" , ")).into_bytes()
        }
        Values::Events { .. } => event(random).into_bytes(),
    }
}

/// An ad event as `clickmill produce` writes it, about.
pub fn event(random: &mut Random) -> String {
    let mut hex = |digits: u32| format!("{:0width$x}", random.below(1 << (4 * digits)), width = digits as usize);
    let texts = [hex(8), hex(8), hex(8), hex(8), hex(8), hex(8), hex(8), hex(8), hex(8)];
    let [site, site_domain, site_category, app, app_domain, app_category, device, ip, model] = texts;
    let mut int = |below| random.below(below);
    format!(
        "{{\"id\":\"{}\",\"click\":{},\"hour\":\"14102100\",\"C1\":{},\"banner_pos\":{},\"site_id\":\"{site}\",\
         \"site_domain\":\"{site_domain}\",\"site_category\":\"{site_category}\",\"app_id\":\"{app}\",\
         \"app_domain\":\"{app_domain}\",\"app_category\":\"{app_category}\",\"device_id\":\"{device}\",\
         \"device_ip\":\"{ip}\",\"device_model\":\"{model}\",\"device_type\":{},\"device_conn_type\":{},\"C14\":{},\
         \"C15\":320,\"C16\":50,\"C17\":{},\"C18\":{},\"C19\":{},\"C20\":{},\"C21\":{},\"ts\":{}}}",
        int(1 << 60),
        int(2),
        1_000 + int(13),
        int(8),
        int(6),
        int(6),
        15_000 + int(9_000),
        1_000 + int(2_000),
        int(4),
        30 + int(2_000),
        int(200_000) as i64 - 1,
        int(260),
        START_MS as u64 + int(3_600_000),
    )
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}
