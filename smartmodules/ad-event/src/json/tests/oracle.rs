//! What an ad event is, said the obvious way: serde's derived code.

use serde::Deserialize;

use crate::event::AdEvent;
use crate::fields::{Int, Text};

/// The obvious way to say what an ad event is: serde's derived code, which the parser has to agree with.
#[derive(Deserialize, Debug)]
#[allow(non_snake_case, reason = "the fields' names")]
pub struct Oracle {
    id: String,
    click: i32,
    hour: String,
    C1: i32,
    banner_pos: i32,
    site_id: String,
    site_domain: String,
    site_category: String,
    app_id: String,
    app_domain: String,
    app_category: String,
    device_id: String,
    device_ip: String,
    device_model: String,
    device_type: i32,
    device_conn_type: i32,
    C14: i32,
    C15: i32,
    C16: i32,
    C17: i32,
    C18: i32,
    C19: i32,
    C20: i32,
    C21: i32,
    ts: i64,
}

impl Oracle {
    pub fn read(json: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(json).ok()?;
        // A derived struct would take an array as well.
        let object = text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{');
        serde_json::from_str(text).ok().filter(|_| object)
    }

    pub fn same_as(&self, event: &AdEvent<'_>) -> bool {
        let Self { C1, C14, C15, C16, C17, C18, C19, C20, C21, .. } = self;
        let ints = [*C1, *C14, *C15, *C16, *C17, *C18, *C19, *C20, *C21].map(i64::from);
        let fields = [Int::C1, Int::C14, Int::C15, Int::C16, Int::C17, Int::C18, Int::C19, Int::C20, Int::C21];
        let texts = [
            (&self.id, Text::Id),
            (&self.hour, Text::Hour),
            (&self.site_id, Text::SiteId),
            (&self.site_domain, Text::SiteDomain),
            (&self.site_category, Text::SiteCategory),
            (&self.app_id, Text::AppId),
            (&self.app_domain, Text::AppDomain),
            (&self.app_category, Text::AppCategory),
            (&self.device_id, Text::DeviceId),
            (&self.device_ip, Text::DeviceIp),
            (&self.device_model, Text::DeviceModel),
        ];
        fields.map(|f| event.int(f)) == ints
            && texts.iter().all(|(text, field)| text.as_bytes() == event.text(*field))
            && i64::from(self.click) == event.int(Int::Click)
            && i64::from(self.banner_pos) == event.int(Int::BannerPos)
            && i64::from(self.device_type) == event.int(Int::DeviceType)
            && i64::from(self.device_conn_type) == event.int(Int::DeviceConnType)
            && self.ts == event.int(Int::Ts)
    }
}
