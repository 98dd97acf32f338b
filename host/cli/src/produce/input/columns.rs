//! Avazu's 24 columns, and a file's header against them.

/// How many columns a row has.
pub const WIDTH: usize = 24;

/// The columns in the order of the data set, which is that of the JSON too.
pub const COLUMNS: [&str; WIDTH] = [
    "id",
    "click",
    "hour",
    "C1",
    "banner_pos",
    "site_id",
    "site_domain",
    "site_category",
    "app_id",
    "app_domain",
    "app_category",
    "device_id",
    "device_ip",
    "device_model",
    "device_type",
    "device_conn_type",
    "C14",
    "C15",
    "C16",
    "C17",
    "C18",
    "C19",
    "C20",
    "C21",
];

/// Places in [`COLUMNS`].
pub const ID: usize = 0;
pub const CLICK: usize = 1;
pub const HOUR: usize = 2;

/// Whether the column is an integer in JSON; the others are strings.
pub const IS_INTEGER: [bool; WIDTH] = {
    let mut is = [false; WIDTH];
    let mut i = 0;
    while i < WIDTH {
        // click, C1, banner_pos, device_type, device_conn_type, C14 to C21
        is[i] = matches!(i, 1 | 3 | 4 | 14..);
        i += 1;
    }
    is
};

/// Where a file has each column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Columns {
    /// In the order of [`COLUMNS`].
    InOrder,
    /// Column `i` stands at place `.0[i]` of a row.
    Permuted(Box<[usize; WIDTH]>),
}

impl Columns {
    /// Reads a header.
    ///
    /// # Errors
    /// Which columns are missing, unexpected, or there twice.
    pub fn of_header(header: &[&[u8]]) -> Result<Self, String> {
        let shown = |name: &[u8]| format!("{:?}", String::from_utf8_lossy(&name[..name.len().min(40)]));
        let mut places = [None; WIDTH];
        let (mut unexpected, mut repeated) = (Vec::new(), Vec::new());
        for (place, name) in header.iter().enumerate() {
            match COLUMNS.iter().position(|c| c.as_bytes() == *name) {
                Some(column) if places[column].is_some() => repeated.push(shown(name)),
                Some(column) => places[column] = Some(place),
                None if unexpected.len() < WIDTH => unexpected.push(shown(name)),
                None => {}
            }
        }
        let missing: Vec<&str> = (0..WIDTH).filter(|c| places[*c].is_none()).map(|c| COLUMNS[c]).collect();
        let mut faults = Vec::new();
        if missing.len() == WIDTH {
            faults.push("none of Avazu's columns is in the first line, is it a header?".to_owned());
        } else if !missing.is_empty() {
            faults.push(format!("missing: {}", missing.join(", ")));
        }
        if !unexpected.is_empty() {
            faults.push(format!("unexpected: {}", unexpected.join(", ")));
        }
        if !repeated.is_empty() {
            faults.push(format!("there twice: {}", repeated.join(", ")));
        }
        if !faults.is_empty() {
            return Err(faults.join("; "));
        }
        let places = places.map(Option::unwrap_or_default);
        let in_order = places.iter().enumerate().all(|(column, place)| column == *place);
        Ok(if in_order { Self::InOrder } else { Self::Permuted(Box::new(places)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(names: &[&'static str]) -> Vec<&'static [u8]> {
        names.iter().map(|n| n.as_bytes()).collect()
    }

    #[test]
    fn a_header_in_any_order_is_taken_and_another_one_says_what_is_wrong() {
        assert_eq!(Columns::of_header(&header(&COLUMNS)).unwrap(), Columns::InOrder);
        let mut swapped = COLUMNS;
        swapped.swap(0, 23);
        match Columns::of_header(&header(&swapped)).unwrap() {
            Columns::Permuted(places) => assert_eq!((places[0], places[1], places[23]), (23, 1, 0)),
            Columns::InOrder => panic!("it is not in order"),
        }
        let mut test_set = COLUMNS.to_vec();
        test_set.remove(CLICK);
        assert_eq!(Columns::of_header(&header(&test_set)).unwrap_err(), "missing: click");
        let mut other = COLUMNS;
        other[3] = "c1";
        other[5] = "id";
        let error = Columns::of_header(&header(&other)).unwrap_err();
        assert_eq!(error, "missing: C1, site_id; unexpected: \"c1\"; there twice: \"id\"");
        assert!(Columns::of_header(&[b"10000,1,2"]).unwrap_err().contains("is it a header?"));
    }

    #[test]
    fn thirteen_columns_are_integers() {
        let integers: Vec<&str> = (0..WIDTH).filter(|c| IS_INTEGER[*c]).map(|c| COLUMNS[c]).collect();
        let expected = "click C1 banner_pos device_type device_conn_type C14 C15 C16 C17 C18 C19 C20 C21";
        assert_eq!(integers.join(" "), expected);
    }
}
