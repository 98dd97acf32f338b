//! The module's parameters: parsed, checked, and written down in states.
//!
//! Owns names, defaults and bounds of the parameters (`SmartModule.toml` shows them to users; a test holds the two
//! together). It must not know how windows use them.

use std::fmt::Write;

use crate::column::Column;
use crate::watermark::Rule;

/// Length of a pane.
pub const PANE_MS: i64 = 60_000;
/// Length of a window that is the sum of its panes; a multiple of [`PANE_MS`].
pub const SPAN_MS: i64 = 300_000;
/// Name of the dimension that counts every record under the empty key.
pub const TOTAL: &str = "total";

/// The keyed dimensions where no others are asked for, in the byte order of their names.
pub const USUAL_COLUMNS: [Column; 4] =
    [Column::AppCategory, Column::BannerPos, Column::DeviceType, Column::SiteCategory];

/// The module's parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Whether the dimension [`TOTAL`] is given out.
    pub total: bool,
    /// The keyed dimensions, in the byte order of their names, each once.
    pub columns: Vec<Column>,
    pub watermark: Rule,
    /// Keys of a (pane, dimension) that get a row of their own.
    pub max_keys: usize,
    /// Key bytes of a (pane, dimension), see [`crate::table::KEY_OVERHEAD_BYTES`].
    pub max_pane_key_bytes: u64,
    /// Key bytes of all panes that are held.
    pub max_held_key_bytes: u64,
    /// Panes that are open at a time.
    pub max_open_panes: usize,
}

/// A parameter that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadParam {
    #[error("parameter `{name}`: {value:?} is not a whole number from {min} to {max}")]
    OutOfRange { name: &'static str, value: String, min: i64, max: i64 },
    #[error("parameter `dimensions`: there is no dimension {name:?}; there are {TOTAL}, {}", columns().join(", "))]
    Dimension { name: String },
    #[error("parameter `dimensions`: {name} is named twice")]
    Twice { name: String },
    #[error("parameters `{small}` = {small_value} and `{large}` = {large_value}: {small} must be less than {large}")]
    Order { small: &'static str, small_value: i64, large: &'static str, large_value: i64 },
    #[error(
        "parameter `max_open_panes`: {value} is too low: with this lateness and this limit of the future, {reserved} \
         panes are kept free for records in range, so give at least {}", .reserved + 1
    )]
    TooFewPanes { value: usize, reserved: usize },
}

fn columns() -> Vec<&'static str> {
    Column::ALL.iter().map(|column| column.name()).collect()
}

const DIMENSIONS: &str = "dimensions";

/// A parameter that is a whole number.
struct Number {
    name: &'static str,
    min: i64,
    max: i64,
    get: fn(&Config) -> i64,
    set: fn(&mut Config, i64),
}

macro_rules! number {
    ($name:ident in $min:literal ..= $max:literal, $($field:ident).+ as $type:ty) => {
        Number {
            name: stringify!($name),
            min: $min,
            max: $max,
            get: |config| config.$($field).+ as i64,
            set: |config, value| config.$($field).+ = value as $type,
        }
    };
}

/// A year of milliseconds bounds times: sums of them stay far from the ends of `i64`.
const NUMBERS: &[Number] = &[
    number!(out_of_orderness_ms in 0 ..= 31_536_000_000, watermark.out_of_orderness_ms as i64),
    number!(allowed_lateness_ms in 0 ..= 31_536_000_000, watermark.allowed_lateness_ms as i64),
    number!(future_limit_ms in 1 ..= 31_536_000_000, watermark.future_limit_ms as i64),
    number!(future_quorum in 1 ..= 100_000, watermark.future_quorum as usize),
    number!(future_window in 1 ..= 100_000, watermark.future_window as usize),
    number!(max_keys in 1 ..= 1_000_000, max_keys as usize),
    number!(max_pane_key_bytes in 1 ..= 268_435_456, max_pane_key_bytes as u64),
    number!(max_held_key_bytes in 1 ..= 1_073_741_824, max_held_key_bytes as u64),
    number!(max_open_panes in 1 ..= 1_000_000, max_open_panes as usize),
];

impl Default for Config {
    fn default() -> Self {
        Self {
            total: true,
            columns: USUAL_COLUMNS.to_vec(),
            watermark: Rule {
                out_of_orderness_ms: 10_000,
                allowed_lateness_ms: 60_000,
                future_limit_ms: 3_600_000,
                future_quorum: 100,
                future_window: 1_000,
            },
            max_keys: 10_000,
            max_pane_key_bytes: 1 << 20,
            max_held_key_bytes: 64 << 20,
            max_open_panes: 4_096,
        }
    }
}

impl Config {
    /// The names of all parameters.
    #[must_use]
    pub fn names() -> Vec<&'static str> {
        std::iter::once(DIMENSIONS).chain(NUMBERS.iter().map(|number| number.name)).collect()
    }

    /// Reads the parameters, each from what `get` gives for its name, or else its default.
    ///
    /// # Errors
    /// [`BadParam`] names the parameter and says what it may be.
    pub fn parse<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Self, BadParam> {
        let mut config = Self::default();
        if let Some(list) = get(DIMENSIONS) {
            config.set_dimensions(list)?;
        }
        for Number { name, min, max, set, .. } in NUMBERS {
            if let Some(value) = get(name) {
                let parsed = value.trim().parse().ok().filter(|v| (min..=max).contains(&v));
                let out_of_range = || BadParam::OutOfRange { name, value: value.to_owned(), min: *min, max: *max };
                set(&mut config, parsed.ok_or_else(out_of_range)?);
            }
        }
        config.check()?;
        Ok(config)
    }

    fn set_dimensions(&mut self, list: &str) -> Result<(), BadParam> {
        self.total = false;
        self.columns.clear();
        for name in list.split(',').map(str::trim) {
            let twice = || BadParam::Twice { name: name.to_owned() };
            if name == TOTAL {
                if std::mem::replace(&mut self.total, true) {
                    return Err(twice());
                }
                continue;
            }
            let column = Column::named(name).ok_or_else(|| BadParam::Dimension { name: name.to_owned() })?;
            if self.columns.contains(&column) {
                return Err(twice());
            }
            self.columns.push(column);
        }
        self.columns.sort_by_key(|column| column.name());
        Ok(())
    }

    fn check(&self) -> Result<(), BadParam> {
        let Rule { out_of_orderness_ms, future_limit_ms, future_quorum, future_window, .. } = self.watermark;
        if out_of_orderness_ms >= future_limit_ms {
            return Err(BadParam::Order {
                small: "out_of_orderness_ms",
                small_value: out_of_orderness_ms,
                large: "future_limit_ms",
                large_value: future_limit_ms,
            });
        }
        if future_quorum >= future_window {
            return Err(BadParam::Order {
                small: "future_quorum",
                small_value: future_quorum as i64,
                large: "future_window",
                large_value: future_window as i64,
            });
        }
        let reserved = self.panes_in_range();
        if self.max_open_panes <= reserved {
            return Err(BadParam::TooFewPanes { value: self.max_open_panes, reserved });
        }
        Ok(())
    }

    /// The most panes that can be open and begin no later than the limit of the future.
    #[must_use]
    pub const fn panes_in_range(&self) -> usize {
        // Their starts lie in (watermark - lateness - pane, watermark + limit].
        let range = self.watermark.allowed_lateness_ms + self.watermark.future_limit_ms + PANE_MS;
        ((range + PANE_MS - 1) / PANE_MS) as usize
    }

    /// The names of the dimensions, in byte order.
    #[must_use]
    pub fn dimensions(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.columns.iter().map(|column| column.name()).collect();
        if self.total {
            names.push(TOTAL);
        }
        names.sort_unstable();
        names
    }

    /// Everything that decides values, as text: equal texts, equal windows.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut text = format!("{DIMENSIONS}={} sizes_ms={PANE_MS},{SPAN_MS}", self.dimensions().join(","));
        for number in NUMBERS {
            // Writing to a String cannot fail.
            let _ = write!(text, " {}={}", number.name, (number.get)(self));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(params: &[(&str, &str)]) -> Result<Config, BadParam> {
        Config::parse(|name| params.iter().find(|(key, _)| *key == name).map(|(_, value)| *value))
    }

    #[test]
    fn no_parameters_give_the_documented_defaults() {
        let config = parse(&[]).unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(
            config.fingerprint(),
            "dimensions=app_category,banner_pos,device_type,site_category,total sizes_ms=60000,300000 \
             out_of_orderness_ms=10000 allowed_lateness_ms=60000 future_limit_ms=3600000 future_quorum=100 \
             future_window=1000 max_keys=10000 max_pane_key_bytes=1048576 max_held_key_bytes=67108864 \
             max_open_panes=4096"
        );
    }

    #[test]
    fn the_smart_module_toml_names_every_parameter_with_its_default() {
        let toml = include_str!("../SmartModule.toml");
        for number in NUMBERS {
            let default = (number.get)(&Config::default());
            let section = toml.split("[[params]]").find(|s| s.contains(&format!("name = \"{}\"", number.name)));
            let section = section.unwrap_or_else(|| panic!("{} is not in SmartModule.toml", number.name));
            assert!(section.contains(&format!("default = \"{default}\"")), "default of {}", number.name);
        }
        for column in Column::ALL {
            assert!(toml.contains(column.name()), "{} is not in SmartModule.toml", column.name());
        }
    }

    #[test]
    fn dimensions_are_the_same_in_any_order_and_spacing() {
        let config = parse(&[("dimensions", "C1, total,site_id")]).unwrap();
        assert_eq!(config.dimensions(), ["C1", "site_id", "total"]);
        assert_eq!(config, parse(&[("dimensions", "site_id,C1,total")]).unwrap());
        assert!(!parse(&[("dimensions", "C1")]).unwrap().total);
    }

    #[test]
    fn an_unknown_dimension_is_named_together_with_the_valid_ones() {
        let message = parse(&[("dimensions", "total,site_cat")]).unwrap_err().to_string();
        assert!(
            message.contains("\"site_cat\"") && message.contains("total, site_category, app_category"),
            "{message}"
        );
        assert!(matches!(parse(&[("dimensions", "")]), Err(BadParam::Dimension { .. })));
        assert!(matches!(parse(&[("dimensions", "C1,C1")]), Err(BadParam::Twice { .. })));
        assert!(matches!(parse(&[("dimensions", "total,total")]), Err(BadParam::Twice { .. })));
    }

    #[test]
    fn parameters_that_cannot_work_are_refused_with_what_may_be() {
        let message = parse(&[("max_keys", "0")]).unwrap_err().to_string();
        assert!(message.contains("from 1 to 1000000"), "{message}");
        assert!(parse(&[("allowed_lateness_ms", "-1")]).is_err());
        assert!(parse(&[("allowed_lateness_ms", "9223372036854775807")]).is_err());
        assert!(matches!(parse(&[("out_of_orderness_ms", "3600000")]), Err(BadParam::Order { .. })));
        assert!(matches!(parse(&[("future_window", "100")]), Err(BadParam::Order { .. })));
        assert!(matches!(parse(&[("max_open_panes", "62")]), Err(BadParam::TooFewPanes { reserved: 62, .. })));
        assert!(parse(&[("max_open_panes", "63")]).is_ok());
    }
}
