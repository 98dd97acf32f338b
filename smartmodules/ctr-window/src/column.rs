//! The event's columns that windows can be keyed by, and which kind of key each gives.

/// Kind of a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Integer,
}

macro_rules! columns {
    ($($column:ident $name:literal $kind:ident;)*) => {
        /// A column of the event, enriched ones included.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Column {
            $(#[doc = concat!("`", $name, "`")] $column,)*
        }

        impl Column {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$column,)*];

            /// The name in the event, and the dimension's name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$column => $name,)*
                }
            }

            /// The kind of its values.
            #[must_use]
            pub const fn kind(self) -> Kind {
                match self {
                    $(Self::$column => Kind::$kind,)*
                }
            }
        }
    };
}

columns! {
    SiteCategory "site_category" Text;
    AppCategory "app_category" Text;
    DeviceType "device_type" Integer;
    BannerPos "banner_pos" Integer;
    Hour "hour" Text;
    SiteId "site_id" Text;
    SiteDomain "site_domain" Text;
    AppId "app_id" Text;
    AppDomain "app_domain" Text;
    DeviceId "device_id" Text;
    DeviceIp "device_ip" Text;
    DeviceModel "device_model" Text;
    DeviceConnType "device_conn_type" Integer;
    C1 "C1" Integer;
    C14 "C14" Integer;
    C15 "C15" Integer;
    C16 "C16" Integer;
    C17 "C17" Integer;
    C18 "C18" Integer;
    C19 "C19" Integer;
    C20 "C20" Integer;
    C21 "C21" Integer;
    DeviceClass "device_class" Text;
    HourOfDay "hour_of_day" Integer;
    Weekday "weekday" Integer;
}

impl Column {
    /// The column of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|column| column.name() == name)
    }
}
