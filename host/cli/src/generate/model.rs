//! What a generated row is: which figures decide which column, and how likely a click is.
//!
//! A row is site traffic (no app) or app traffic (no site), as in Avazu. Within that, the columns are drawn by their
//! published shares, the ones of one site, app or creative together. The probability of a click is the click-through
//! rate of the site's or app's category times the ratios of the hour, `C1`, `banner_pos`, size, connection type and
//! `C18` to the whole: as these are drawn independently, each value keeps its published rate.

use super::draw::{Known, Picker, Tail, Tailed, Text};
use super::figures as f;
use super::rng::{Rng, nth};

/// The data set begins on 2014-10-21 at 00.
const FIRST_DAY_OF_MONTH: u32 = 21;

/// Which rows fall into which hour.
#[derive(Debug)]
pub struct Plan {
    /// `ends[h]`: rows of the hours up to and with hour `h`.
    ends: Vec<u64>,
}

impl Plan {
    /// Shares `rows` out over the first `hours` hours, as the data set's are.
    pub fn new(rows: u64, hours: usize) -> Self {
        let hours = &f::HOURS[..hours.clamp(1, f::HOURS.len())];
        let total: u128 = hours.iter().map(|h| u128::from(h.0)).sum();
        let mut sum = 0;
        let end_of = |hour: &(u32, u32)| {
            sum += u128::from(hour.0);
            (u128::from(rows) * sum / total) as u64
        };
        Self { ends: hours.iter().map(end_of).collect() }
    }

    /// The hours with the rows that begin and end them.
    pub fn hours(&self) -> impl Iterator<Item = (usize, std::ops::Range<u64>)> + '_ {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| start..*end).enumerate()
    }
}

/// `YYMMDDHH` of an hour of the data set.
pub fn hour_text(hour: usize) -> Text {
    let day = FIRST_DAY_OF_MONTH + hour as u32 / 24;
    Text::new(&format!("1410{day:02}{:02}", hour % 24))
}

/// The columns' distributions.
pub struct Model {
    traffic: Picker,
    site_id: Tailed,
    site_domain: Tailed,
    site_category: Known,
    app_id: Tailed,
    app_domain: Tailed,
    app_category: Known,
    device_id: Tailed,
    device_ip: Tailed,
    device_model: Tailed,
    c1: Known,
    device_type_4: u32,
    device_type_2: u32,
    banner_pos: Known,
    conn_type: Known,
    size: Known,
    c14: Tailed,
    c17: Tailed,
    c18: Known,
    c19: Tailed,
    c20: Tailed,
    c21: Tailed,
    no_site: [Text; 3],
    no_app: [Text; 3],
    overall_ctr: f64,
}

impl Model {
    pub fn new() -> Self {
        let ctr = f64::from(f::CLICKS) / f64::from(f::ROWS);
        let hex = |salt| Tail::Hex { salt };
        let number = |first, step| Tail::Number { first, step };
        let share = |part: u32, of: u32| ((u64::from(part) << 32) / u64::from(of)) as u32;
        let c1 = Known::new(f::C1, ctr);
        let rows_of = |value| f::C1.iter().find(|s| s.0 == value).map_or(1, |s| s.1);
        Self {
            traffic: Picker::new([f::SITE_TRAFFIC.0, f::APP_TRAFFIC.0]),
            site_id: Tailed::new(&f::SITE_ID, hex(0x51), 2),
            site_domain: Tailed::new(&f::SITE_DOMAIN, hex(0x5d), 2),
            site_category: Known::new(f::SITE_CATEGORY, 1.0),
            app_id: Tailed::new(&f::APP_ID, hex(0xa1), 2),
            app_domain: Tailed::new(&f::APP_DOMAIN, hex(0xad), 2),
            app_category: Known::new(f::APP_CATEGORY, 1.0),
            device_id: Tailed::new(&f::DEVICE_ID, hex(0xd1d0_0000), 1),
            device_ip: Tailed::new(&f::DEVICE_IP, hex(0x1b00_0000), 3),
            device_model: Tailed::new(&f::DEVICE_MODEL, hex(0xde), 2),
            device_type_4: share(f::C1_1010_DEVICE_TYPE_4, rows_of("1010")),
            device_type_2: share(f::DEVICE_TYPE_2, rows_of("1005")),
            c1,
            banner_pos: Known::new(f::BANNER_POS, ctr),
            conn_type: Known::new(f::DEVICE_CONN_TYPE, ctr),
            size: Known::new(f::SIZE, ctr),
            c14: Tailed::new(&f::C14, number(375, 9), 1),
            c17: Tailed::new(&f::C17, number(112, 6), 1),
            c18: Known::new(f::C18, ctr),
            c19: Tailed::new(&f::C19, number(34, 32), 1),
            c20: Tailed::new(&f::C20, number(100_000, 1), 1),
            c21: Tailed::new(&f::C21, number(1, 4), 1),
            no_site: [f::NO_SITE_ID, f::NO_SITE_DOMAIN, f::NO_SITE_CATEGORY].map(Text::new),
            no_app: [f::NO_APP_ID, f::NO_APP_DOMAIN, f::NO_APP_CATEGORY].map(Text::new),
            overall_ctr: ctr,
        }
    }

    /// The hour's click-through rate over that of the whole.
    pub fn hour_ratio(&self, hour: usize) -> f64 {
        let (rows, clicks) = f::HOURS[hour];
        f64::from(clicks) / f64::from(rows) / self.overall_ctr
    }

    /// Appends the `row`th row of the file that `seed` makes, with its line feed.
    pub fn write_row(&self, seed: u64, row: u64, hour: Text, hour_ratio: f64, rng: &mut Rng, out: &mut Vec<u8>) {
        let (u_traffic, u_place) = rng.next_pair();
        let (u_c1, u_device_type) = rng.next_pair();
        let (u_banner, u_conn) = rng.next_pair();
        let (u_size, u_c18) = rng.next_pair();
        let (u_creative, u_click) = rng.next_pair();
        let (u_c19, u_c20) = rng.next_pair();
        let (u_c21, u_model) = rng.next_pair();
        let (u_id, u_ip) = rng.next_pair();

        let (site, app, place_ctr);
        if self.traffic.pick(u_traffic) == 0 {
            let (category, ctr) = self.site_category.draw(u_place);
            site = [self.site_id.draw(u_place), self.site_domain.draw(u_place), category];
            app = self.no_app;
            place_ctr = ctr;
        } else {
            let (category, ctr) = self.app_category.draw(u_place);
            site = self.no_site;
            app = [self.app_id.draw(u_place), self.app_domain.draw(u_place), category];
            place_ctr = ctr;
        }
        let (c1, c1_ratio) = self.c1.draw_index(u_c1);
        let c1 = self.c1.text(c1);
        let device_type = match c1.as_bytes() {
            b"1002" => b"0",
            b"1010" if u_device_type < self.device_type_4 => b"4",
            b"1010" => b"5",
            b"1005" if u_device_type < self.device_type_2 => b"2",
            _ => b"1",
        };
        let (banner_pos, banner_ratio) = self.banner_pos.draw(u_banner);
        let (conn_type, conn_ratio) = self.conn_type.draw(u_conn);
        let (size, size_ratio) = self.size.draw(u_size);
        let (c18, c18_ratio) = self.c18.draw(u_c18);
        let click_probability = place_ctr * hour_ratio * c1_ratio * banner_ratio * conn_ratio * size_ratio * c18_ratio;
        let click = f64::from(u_click) < click_probability * 4_294_967_296.0;

        put_decimal(out, nth(seed, row));
        out.extend_from_slice(if click { b",1," } else { b",0," });
        for text in [hour, c1, banner_pos].iter().chain(&site).chain(&app) {
            put_field(out, text);
        }
        put_field(out, &self.device_id.draw(u_id));
        put_field(out, &self.device_ip.draw(u_ip));
        put_field(out, &self.device_model.draw(u_model));
        out.extend_from_slice(&[device_type[0], b',']);
        put_field(out, &conn_type);
        put_field(out, &self.c14.draw(u_creative));
        put_field(out, &size);
        put_field(out, &self.c17.draw(u_creative));
        put_field(out, &c18);
        put_field(out, &self.c19.draw(u_c19));
        put_field(out, &self.c20.draw(u_c20));
        out.extend_from_slice(self.c21.draw(u_c21).as_bytes());
        out.push(b'\n');
    }
}

#[inline]
fn put_field(out: &mut Vec<u8>, text: &Text) {
    out.extend_from_slice(text.as_bytes());
    out.push(b',');
}

fn put_decimal(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0; 20];
    let mut at = 20;
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
