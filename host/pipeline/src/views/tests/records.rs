//! Pages of records.

use std::time::Duration;

use clickmill_schemas::envelope::SourcePosition;

use super::super::records::{Content, PageLimits, read_page};
use super::*;

#[test]
fn a_page_shows_text_as_it_is_partials_decoded_and_other_bytes_in_base64() {
    let f = Fixture::new();
    let position = SourcePosition { source: 255, row: 6 }.encode();
    f.append(AD_EVENTS_RAW, 0, &[(None, b"{\"b\":1, \"a\":2}"), (Some(&position), b"\xff\x00"), (Some(b"k"), b"3")]);
    let limits = PageLimits { records: 2, bytes: 1 << 20, wait: Duration::ZERO };
    let at = TopicPartition::new(AD_EVENTS_RAW, PartitionId(0));
    let page = read_page(&f.log, &at, Offset(0), limits).unwrap();
    assert_eq!((page.next_offset, page.log_end_offset), (Offset(2), Offset(3)));
    assert_eq!(page.records[0].value, Content::Utf8("{\"b\":1, \"a\":2}".into()));
    assert_eq!(page.records[1].value, Content::Base64("/wA=".into()));
    assert_eq!(page.records[1].key, Some(Content::SourcePosition { source: "00000000000000ff".into(), row: 6 }));
    let rest = read_page(&f.log, &at, page.next_offset, limits).unwrap();
    assert_eq!((rest.records.len(), rest.records[0].offset), (1, Offset(2)));
    assert!(read_page(&f.log, &at, Offset(4), limits).is_err());

    f.partial(1, (3, 9), (MINUTE, 0, "device_type"), &[("1", 5, 2)]);
    let page = read_page(&f.log, &TopicPartition::new(CTR_WINDOWS, PartitionId(0)), Offset(0), limits).unwrap();
    let Content::Partial(partial) = &page.records[0].value else { panic!("{page:?}") };
    assert_eq!(
        (partial.dimension.as_str(), partial.entries[0].impressions, partial.epoch),
        ("device_type", 5, Epoch(3))
    );
}

#[test]
fn a_page_is_bounded_in_bytes_and_gives_at_least_one_record() {
    let f = Fixture::new();
    f.append(AD_EVENTS_RAW, 0, &[(None, &[b'x'; 100][..]); 5]);
    let at = TopicPartition::new(AD_EVENTS_RAW, PartitionId(0));
    for (bytes, expected) in [(10, 1), (250, 2), (1_000, 5)] {
        let limits = PageLimits { records: 100, bytes, wait: Duration::ZERO };
        assert_eq!(read_page(&f.log, &at, Offset(0), limits).unwrap().records.len(), expected, "{bytes}");
    }
}
