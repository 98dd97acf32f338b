//! A host that refuses, breaks off, dies and comes back, against what must be in its topics in the end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use clickmill_schemas::PartitionId;
use clickmill_schemas::envelope::SourcePosition;
use clickmill_schemas::record::Records;
use clickmill_schemas::round::Batches;
use serde_json::json;

use super::*;

/// What the host does with a round.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Store,
    /// 429, with nothing stored.
    Refuse,
    /// Breaks the connection, with nothing stored.
    Break,
    /// Stores batches of some partitions and breaks the connection.
    StorePart(u32),
    /// Stores all and breaks the connection.
    StoreAndBreak,
    Fail,
}

/// By partition: values, and the newest position.
type Topic = Vec<(Vec<Vec<u8>>, Option<u64>)>;

struct FakeHost {
    address: String,
    topics: Arc<Mutex<[Topic; 2]>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeHost {
    fn start(moods: Vec<Mood>, topics: Arc<Mutex<[Topic; 2]>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, shared) = (Arc::clone(&stop), Arc::clone(&topics));
        let thread = std::thread::spawn(move || {
            let mut moods = moods.into_iter();
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                answer(stream.unwrap(), &mut moods, &shared);
            }
        });
        Self { address, topics, stop, thread: Some(thread) }
    }

    fn remote(&self) -> Remote {
        Remote::new(self.address.clone(), Some("secret".to_owned()), Box::new(|| None), |_| {}).unwrap()
    }
}

impl Drop for FakeHost {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address.trim_start_matches("http://"));
        self.thread.take().unwrap().join().unwrap();
    }
}

fn three_and_one() -> Arc<Mutex<[Topic; 2]>> {
    Arc::new(Mutex::new([vec![(Vec::new(), None); 3], vec![(Vec::new(), None); 1]]))
}

/// One request a connection.
fn answer(stream: TcpStream, moods: &mut impl Iterator<Item = Mood>, topics: &Mutex<[Topic; 2]>) {
    let mut input = BufReader::new(stream.try_clone().unwrap());
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if input.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if line == "\r\n" {
            break;
        }
        head.push(line.trim_end().to_ascii_lowercase());
    }
    assert!(head.iter().any(|h| h == "authorization: bearer secret"), "{head:?}");
    let len = head.iter().find_map(|h| h.strip_prefix("content-length: ")).map_or(0, |l| l.parse().unwrap());
    let mut body = vec![0; len];
    input.read_exact(&mut body).unwrap();
    let path = head[0].split(' ').nth(1).unwrap().to_owned();
    let topic = usize::from(!path.contains(AD_EVENTS_RAW));
    let mut topics = topics.lock().unwrap();
    let reply = if path.contains("/source/") {
        (200, json!({"positions": topics[topic].iter().map(|p| p.1).collect::<Vec<_>>()}))
    } else if path.starts_with("/api/") {
        (200, json!({"topic": AD_EVENTS_RAW, "partitions": [{}, {}, {}]}))
    } else {
        let mood = moods.next().unwrap_or(Mood::Store);
        let takes = |partition: PartitionId| match mood {
            Mood::Store | Mood::StoreAndBreak => true,
            Mood::StorePart(only) => partition.0 == only,
            Mood::Refuse | Mood::Break | Mood::Fail => false,
        };
        let mut offsets = Vec::new();
        for batch in Batches::new(&body).map(Result::unwrap).filter(|b| takes(b.partition)) {
            let (values, position) = &mut topics[topic][batch.partition.0 as usize];
            offsets.push(values.len());
            for record in Records::new(batch.set).unwrap().map(Result::unwrap) {
                values.push(record.value.to_vec());
                *position = record.key.and_then(SourcePosition::decode).map(|p| p.row).or(*position);
            }
        }
        match mood {
            Mood::Store => (200, json!({"base_offsets": offsets})),
            Mood::Refuse => (429, json!({"error": {"code": "backpressure", "message": "later"}})),
            Mood::Fail => (507, json!({"error": {"code": "no_room", "message": "no room to write x"}})),
            Mood::Break | Mood::StorePart(_) | Mood::StoreAndBreak => return,
        }
    };
    let body = reply.1.to_string();
    let mut stream = stream;
    let _ =
        write!(stream, "HTTP/1.1 {} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", reply.0, body.len());
}

/// Rounds of one row for each partition; the values are the rows' numbers.
fn rounds(rows: std::ops::Range<u64>) -> Vec<Round> {
    let round = |first: u64| {
        let batch = |partition: u64| {
            let row = first * 3 + partition;
            let mut set = RecordSetBuilder::default();
            set.push(Some(&SourcePosition { source: 9, row }.encode()), &row.to_be_bytes(), 5);
            Batch { partition: PartitionId(partition as u32), set, last_row: row }
        };
        Round { events: (0..3).map(batch).collect(), dead_letters: Vec::new() }
    };
    rows.map(round).collect()
}

fn rows_of(topics: &Mutex<[Topic; 2]>) -> Vec<Vec<u64>> {
    let read = |value: &Vec<u8>| u64::from_be_bytes(value.as_slice().try_into().unwrap());
    topics.lock().unwrap()[0].iter().map(|(values, _)| values.iter().map(read).collect()).collect()
}

fn expected(rounds: u64) -> Vec<Vec<u64>> {
    (0..3).map(|p| (0..rounds).map(|r| r * 3 + p).collect()).collect()
}

#[test]
fn every_row_is_there_once_whatever_the_host_does_with_requests() {
    use Mood::{Break, Refuse, Store, StoreAndBreak, StorePart};
    let moods =
        vec![Refuse, StorePart(1), Break, StorePart(0), StoreAndBreak, Store, StorePart(2), Refuse, StoreAndBreak];
    let host = FakeHost::start(moods, three_and_one());
    let mut remote = host.remote();
    assert_eq!(remote.partitions(), 3);
    let mut spare = Vec::new();
    remote.positions(9).unwrap();
    for first in (0..20).step_by(4) {
        remote.send(9, rounds(first..first + 4), &mut spare).unwrap();
    }
    assert_eq!(rows_of(&host.topics), expected(20));
    assert_eq!(spare.len(), 60);
    assert_eq!(remote.positions(9).unwrap().events, [Some(57), Some(58), Some(59)]);
}

#[test]
fn a_host_that_dies_is_waited_for_and_carried_on_with_at_its_new_address() {
    let topics = three_and_one();
    let first = FakeHost::start(Vec::new(), Arc::clone(&topics));
    let address = Arc::new(Mutex::new(first.address.clone()));
    let discovered = Arc::clone(&address);
    let discover: Discover = Box::new(move || Some(discovered.lock().unwrap().clone()));
    let mut remote = Remote::new(first.address.clone(), Some("secret".to_owned()), discover, |_| {}).unwrap();
    remote.send(9, rounds(0..2), &mut Vec::new()).unwrap();
    drop(first);
    let again = Arc::clone(&topics);
    let restart = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        let second = FakeHost::start(Vec::new(), again);
        *address.lock().unwrap() = second.address.clone();
        second
    });
    remote.send(9, rounds(2..5), &mut Vec::new()).unwrap();
    let _second = restart.join().unwrap();
    assert_eq!(rows_of(&topics), expected(5));
}

#[test]
fn what_waiting_does_not_mend_is_an_error_at_once() {
    let host = FakeHost::start(vec![Mood::Store, Mood::Fail], three_and_one());
    let mut remote = host.remote();
    remote.send(9, rounds(0..1), &mut Vec::new()).unwrap();
    let error = remote.send(9, rounds(1..2), &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("no room to write x"), "{error}");
}

#[test]
fn a_topic_that_lost_acknowledged_rows_is_not_written_on() {
    let host = FakeHost::start(vec![Mood::Store, Mood::Break], three_and_one());
    let mut remote = host.remote();
    remote.send(9, rounds(0..1), &mut Vec::new()).unwrap();
    host.topics.lock().unwrap()[0][1] = (Vec::new(), None);
    let error = remote.send(9, rounds(1..2), &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("came back without rows"), "{error}");
}
