//! Whose processes private servers are: never root's.
//!
//! PostgreSQL refuses to run as root, and Redis should not. When we are root, the servers run as `postgres`, else
//! `nobody`; when we are not, they run as ourselves.

use std::path::Path;

use super::ServerError;

/// A user that servers run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
}

const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// The user to switch to; none where we are not root.
///
/// # Errors
/// [`ServerError::NoAccount`] where we are root and there is neither candidate.
pub fn server_account() -> Result<Option<Account>, ServerError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let path = Path::new("/etc/passwd");
    let passwd = std::fs::read_to_string(path).map_err(|e| ServerError::io("read", path, e))?;
    find_account(&passwd, &CANDIDATES).map(Some).ok_or(ServerError::NoAccount)
}

/// The first of `names` that has a line in `passwd` and is not root under another name.
fn find_account(passwd: &str, names: &[&str]) -> Option<Account> {
    names.iter().find_map(|name| {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next() != Some(name) {
                return None;
            }
            let mut number = |skip| fields.nth(skip).and_then(|f: &str| f.parse::<u32>().ok());
            let (uid, gid) = (number(1)?, number(0)?);
            (uid != 0).then(|| Account { name: (*name).to_owned(), uid, gid })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_candidate_with_an_account_of_its_own_is_taken() {
        let passwd =
            "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/x\npostgres:x:101:104:,,,:/var:/bin/sh\n";
        let found = find_account(passwd, &CANDIDATES).unwrap();
        assert_eq!((found.name.as_str(), found.uid, found.gid), ("postgres", 101, 104));
        let found = find_account("postgres:x:0:0::/:/x\nnobody:x:65534:65533::/:/x", &CANDIDATES).unwrap();
        assert_eq!((found.name.as_str(), found.uid, found.gid), ("nobody", 65_534, 65_533));
        assert_eq!(find_account("postgres:broken", &CANDIDATES), None);
    }
}
