//! Tiers 1 and 2 against tier 3, and tier 3 against a plain serde struct, on records and on mutations of them.

mod oracle;

use proptest::prelude::*;

use super::*;
use crate::fields::{Field, Text};
use oracle::Oracle;

/// Checks every tier on one input; `taught` has learnt the shape that the input may have.
fn check(taught: &mut Parser, json: &[u8]) -> bool {
    let text = || String::from_utf8_lossy(json);
    let mut room = (Slots::default(), String::new());
    let expected = strict::parse(json, &mut room.0, &mut room.1).map(|()| as_event(json, &room));
    let oracle = Oracle::read(json);
    assert_eq!(expected.is_ok(), oracle.is_some(), "{expected:?} {}", text());
    if let (Ok(event), Some(oracle)) = (&expected, &oracle) {
        assert!(oracle.same_as(event), "{}", text());
    }
    let mut room = (Slots::default(), String::new());
    if taught.shape.as_mut().is_some_and(|shape| shape.read(json, &mut room.0).is_some()) {
        assert_eq!(expected, Ok(as_event(json, &room)), "tier 1: {}", text());
    }
    let mut room = (Slots::default(), String::new());
    if Learner::default().read(json, &mut room.0, &mut room.1).is_some() {
        assert_eq!(expected, Ok(as_event(json, &room)), "tier 2: {}", text());
    }
    assert_eq!(taught.parse(json), expected);
    expected.is_ok()
}

fn as_event<'a>(json: &'a [u8], (slots, unescaped): &'a (Slots, String)) -> AdEvent<'a> {
    AdEvent { source: json, unescaped: unescaped.as_bytes(), slots, may_have_nul: true }
}

/// A parser that has seen records like this one.
fn taught(json: &[u8]) -> Parser {
    let mut parser = Parser::default();
    for _ in 0..2 {
        let _ = parser.parse(json);
    }
    parser
}

const TYPICAL: &str = r#"{"id":"10017246106627470759","click":1,"hour":"14102100","C1":1005,"banner_pos":0,"site_id":"f9c69707","site_domain":"e16ceb4b","site_category":"28905ebd","app_id":"ecad2386","app_domain":"7801e8d9","app_category":"07d7df22","device_id":"a99f214a","device_ip":"8b19fe67","device_model":"258766e2","device_type":1,"device_conn_type":0,"C14":19665,"C15":320,"C16":50,"C17":2253,"C18":2,"C19":303,"C20":-1,"C21":52,"ts":1413849600000}"#;

fn typical_members() -> Vec<(String, String)> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(TYPICAL).unwrap();
    object.into_iter().map(|(key, value)| (key, value.to_string())).collect()
}

fn render(members: &[(String, String)], spaces: &[&str]) -> String {
    let mut space = spaces.iter().cycle();
    let mut s = || space.next().copied().unwrap_or_default();
    let member = |(key, value): &(String, String)| format!("{}\"{key}\"{}:{}{value}{}", s(), s(), s(), s());
    let members: Vec<_> = members.iter().map(member).collect();
    format!("{{{}}}", members.join(","))
}

/// What a value may be replaced by: sound and unsound numbers, strings, and more.
fn values() -> impl Strategy<Value = String> {
    let odd = [
        "0",
        "-0",
        "00",
        "01",
        "-1",
        "1.0",
        "1e3",
        "1E1",
        "-",
        "+1",
        ".5",
        "2147483647",
        "2147483648",
        "-2147483648",
        "-2147483649",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "1e400",
        "null",
        "true",
        "[]",
        "{}",
        "[1,{\"a\":2}]",
        "\"\"",
        "\"\\n\"",
        "\"\\u00e9\"",
        "\"\\ud800\"",
        "\"\\u0000\"",
        "\"é\"",
        "\"\t\"",
        "\"a\\\"b\"",
        "\"0123456789abcdef\"",
        "\"01234567\"",
        "\"",
        "",
        "123456789012345",
        "1234567890123456",
        "12345678",
    ];
    prop_oneof![
        3 => prop::sample::select(odd.to_vec()).prop_map(str::to_owned),
        1 => any::<i64>().prop_map(|v| v.to_string()),
        1 => any::<i32>().prop_map(|v| v.to_string()),
        1 => any::<f64>().prop_map(|v| v.to_string()),
        1 => ".{0,70}".prop_map(|v| serde_json::Value::from(v).to_string()),
        1 => ".{0,20}".prop_map(|v| format!("\"{v}\"")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn all_tiers_agree_on_objects_of_every_make(
        order in Just((0..25usize).collect::<Vec<_>>()).prop_shuffle(),
        replaced in prop::collection::vec((any::<prop::sample::Index>(), values()), 0..3),
        added in prop::collection::vec(("[a-z_C0-9\\\\\"é]{0,18}", values()), 0..2),
        dropped in prop::collection::vec(any::<prop::sample::Index>(), 0..2),
        doubled in prop::collection::vec(any::<prop::sample::Index>(), 0..2),
        spaces in prop::collection::vec(prop::sample::select(vec!["", "", " ", "  ", "\t", "\n\r", "\u{a0}"]), 1..9),
        cut in 0..1_500usize,
    ) {
        let members = typical_members();
        let mut members: Vec<_> = order.iter().map(|i| members[*i].clone()).collect();
        let sound = render(&members, &spaces);
        for (at, value) in replaced {
            let at = at.index(members.len());
            members[at].1 = value;
        }
        for (key, value) in added {
            members.insert(cut % members.len(), (key, value));
        }
        for at in dropped {
            members.remove(at.index(members.len()));
        }
        for at in doubled {
            members.push(members[at.index(members.len())].clone());
        }
        let json = render(&members, &spaces);
        let mut taught = taught(sound.as_bytes());
        check(&mut taught, json.as_bytes());
        let mut end = cut.min(json.len());
        end -= usize::from(!json.is_char_boundary(end));
        check(&mut taught, &json.as_bytes()[..end]);
    }
}

/// A generator of our own, so that millions of inputs take seconds.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize * limit) >> 31
    }
}

/// `CLICKMILL_MUTATIONS` sets how many inputs are tried.
#[test]
fn all_tiers_agree_on_mutated_records() {
    const INTERESTING: &[u8] = b"\"\\{}[]:,.-+eE0123456789 \t\n\x00\x1f\x7f\x80\xc3\xa9\xff/u";
    let count = std::env::var("CLICKMILL_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(250_000);
    let seeds = [
        TYPICAL.to_owned(),
        render(&typical_members(), &["", "", " ", ""]),
        render(&typical_members(), &["\n  ", "", " ", ""]),
        TYPICAL.replace("e16ceb4b", "пример.example").replace("258766e2", ""),
        TYPICAL.replace("\"C20\"", "\"version\":\"1.2\",\"C20\"").replace("14102100", "1410210012345678"),
        TYPICAL.replace("a99f214a", r"a\u00e99\/f"),
    ];
    let mut parsers = seeds.each_ref().map(|seed| taught(seed.as_bytes()));
    assert!(parsers[..5].iter().all(|p| p.shape.is_some()) && parsers[5].shape.is_none());
    let (mut random, mut accepted) = (Random(1), 0);
    for n in 0..count {
        let mut json = seeds[n % seeds.len()].clone().into_bytes();
        for _ in 0..=random.below(3) {
            let at = random.below(json.len());
            let byte = INTERESTING[random.below(INTERESTING.len())];
            match random.below(6) {
                0 => json[at] = byte,
                1 => json.insert(at, byte),
                2 if json.len() > 1 => drop(json.remove(at)),
                3 => json[at] ^= 1 << random.below(8),
                4 => json.truncate(at.max(1)),
                _ => {
                    let end = (at + random.below(40)).min(json.len());
                    let piece = json[at..end].to_vec();
                    let to = random.below(json.len());
                    json.splice(to..to, piece);
                }
            }
        }
        accepted += usize::from(check(&mut parsers[n % 6], &json));
    }
    assert!(
        accepted > count / 20 && accepted < count,
        "{accepted} of {count} accepted: the mutations are too wild or too tame"
    );
}

#[test]
fn the_fast_tiers_take_what_they_are_for() {
    let alike = [TYPICAL.to_owned(), render(&typical_members(), &["", "", " ", ""]), TYPICAL.replace("e16c", "ü")];
    for json in alike {
        let mut shape = taught(json.as_bytes()).shape.expect("two records alike teach a shape");
        let other = json.replace("8b19fe67", "8b19fe67-and-longer").replace("19665", "7");
        assert!(shape.read(other.as_bytes(), &mut Slots::default()).is_some(), "{other}");
    }
    let wild = render(&typical_members(), &["\n\t", "  ", "", " "]).replace("\"ts\"", "\"new\" : null, \"ts\"");
    assert!(Learner::default().read(wild.as_bytes(), &mut Slots::default(), &mut String::new()).is_some());
}

#[test]
fn faults_name_the_rule_and_the_place() {
    for (from, to, rule, message) in [
        ("{\"id\"", "{\"id", "json", "line 1 column"),
        ("\"click\":1,", "", "required", "`click`"),
        ("\"click\":1", "\"click\":\"1\"", "type", "`click` must be an integer of 32 bits, found \"1\""),
        ("\"click\":1", "\"click\":1.0", "type", "`click` must be an integer of 32 bits, found the number 1.0"),
        ("\"hour\":\"14102100\"", "\"hour\":14102100", "type", "`hour` must be a string, found 14102100"),
        ("\"C21\":52", "\"C21\":2147483648", "range", "`C21` must be an integer of 32 bits, found 2147483648"),
        (
            "1413849600000",
            "18446744073709551615",
            "range",
            "`ts` must be an integer of 64 bits, found 18446744073709551615",
        ),
        ("\"C21\":52", "\"C21\":52,\"C20\":1", "duplicate", "`C20`"),
        ("\"site_id\":\"f9c69707\"", "\"site_id\":null", "type", "`site_id` must be a string, found null"),
        ("}", "} x", "json", "trailing characters"),
        ("\"f9c69707\"", "\"\u{1}\"", "json", "control character"),
    ] {
        let json = TYPICAL.replacen(from, to, 1);
        let fault = Parser::default().parse(json.as_bytes()).unwrap_err();
        assert_eq!(fault.rule, rule, "{fault}");
        assert!(fault.message.contains(message), "{fault}");
    }
    for (json, rule) in
        [(&b"[1]"[..], "object"), (b"7", "object"), (b"", "json"), (b"{\xff}", "utf8"), (b"nul", "json")]
    {
        assert_eq!(Parser::default().parse(json).unwrap_err().rule, rule);
    }
    assert_eq!(Field::Text(Text::Id).name(), "id");
}
