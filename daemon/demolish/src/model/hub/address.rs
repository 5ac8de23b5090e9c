//! Addresses of http and https.

use std::fmt::{self, Write as _};
use std::net::IpAddr;

/// An address. Printed without its query, in which hubs put signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub(super) is_secure: bool,
    pub(super) host: String,
    pub(super) port: u16,
    /// With the query.
    pub(super) path: String,
}

impl Url {
    pub(crate) fn parse(text: &str) -> Result<Url, String> {
        let shown = text.split('?').next().unwrap_or_default();
        let wrong = |why: &str| format!("{shown:?} is no address of a hub ({why})");
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| wrong("it begins with https://"))?;
        let is_secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(wrong("it begins with https:// or http://")),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err("an address with a user or password in it is not used; put the token into DEMOLISH_HUB_TOKEN"
                .to_owned());
        }
        let usual = if is_secure { 443 } else { 80 };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                (host, port.parse().map_err(|_| wrong("its port is no number"))?)
            }
            _ => (authority, usual),
        };
        let is_host = |c: char| c.is_ascii_alphanumeric() || "-._[]:".contains(c);
        if host.is_empty() || !host.chars().all(is_host) {
            return Err(wrong("it has no host"));
        }
        let path = path.split('#').next().unwrap_or_default();
        if path.chars().any(|c| c.is_control() || c == ' ' || !c.is_ascii()) {
            return Err(wrong("its path has characters that have to be written as %…"));
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Url { is_secure, host: host.to_owned(), port, path })
    }

    /// The address of a path below this one. What an address cannot hold is written as `%…`.
    pub(super) fn below(&self, path: &str) -> Url {
        let mut whole = self.path.trim_end_matches('/').to_owned();
        for byte in path.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
                whole.push(char::from(byte));
            } else {
                let _ = write!(whole, "%{byte:02X}");
            }
        }
        Url { path: whole, ..self.clone() }
    }

    /// The same with a query.
    pub(super) fn asking(mut self, query: &str) -> Url {
        self.path.push('?');
        self.path.push_str(query);
        self
    }

    /// Where `location`, the word of a redirection, leads from here.
    pub(super) fn towards(&self, location: &str) -> Result<Url, String> {
        let is_scheme = |text: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        };
        if location.split_once("://").is_some_and(|(scheme, _)| is_scheme(scheme)) {
            return Url::parse(location);
        }
        let scheme = if self.is_secure { "https" } else { "http" };
        if location.starts_with("//") {
            return Url::parse(&format!("{scheme}:{location}"));
        }
        let here = self.path.split('?').next().unwrap_or_default();
        let folder = here.rfind('/').map_or("", |end| &here[..end]);
        let path = match location.strip_prefix('/') {
            Some(_) => location.to_owned(),
            None => format!("{folder}/{location}"),
        };
        Url::parse(&format!("{scheme}://{}{path}", self.authority()))
    }

    /// Host and port, as in the header `Host`.
    pub(super) fn authority(&self) -> String {
        match (self.is_secure, self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }

    pub(super) fn is_same_server(&self, other: &Url) -> bool {
        let server = |url: &Url| (url.is_secure, url.host.to_ascii_lowercase(), url.port);
        server(self) == server(other)
    }

    /// Whether nobody on the way can read or change what goes there.
    pub(super) fn is_private(&self) -> bool {
        let bare = self.bare_host();
        self.is_secure
            || bare == "localhost"
            || bare.parse().is_ok_and(|address: IpAddr| address.is_loopback())
    }

    /// The host without the brackets of IPv6.
    pub(super) fn bare_host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "https" } else { "http" };
        let path = self.path.split('?').next().unwrap_or_default();
        write!(f, "{scheme}://{}{}", self.authority(), path.trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_printed_without_queries() {
        for (text, printed) in [
            ("https://hub.test", "https://hub.test"),
            ("https://hub.test/", "https://hub.test"),
            ("HTTP://hub.test:8080/mirror/?sig=secret", "http://hub.test:8080/mirror"),
            ("http://[::1]:9/x", "http://[::1]:9/x"),
        ] {
            assert_eq!(Url::parse(text).unwrap().to_string(), printed);
        }
        let wrongs =
            ["hub.test", "ftp://hub.test", "https://", "https://a b", "http://h:x", "http://u:p@h"];
        for wrong in wrongs {
            assert!(Url::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn redirections_lead_where_they_say() {
        let here = Url::parse("https://hub.test/a/b?c=d").unwrap();
        for (location, expected) in [
            ("https://other.test/x?y", "https://other.test/x"),
            ("//other.test/x", "https://other.test/x"),
            ("/x", "https://hub.test/x"),
            ("x", "https://hub.test/a/x"),
            ("/x?next=https://other.test/y", "https://hub.test/x"),
        ] {
            assert_eq!(here.towards(location).unwrap().to_string(), expected);
        }
        assert!(here.towards("javascript://x y").is_err());
    }

    #[test]
    fn paths_are_escaped() {
        let base = Url::parse("http://hub.test/mirror/").unwrap();
        assert_eq!(base.below("/a/b c?#é").path, "/mirror/a/b%20c%3F%23%C3%A9");
    }

    #[test]
    fn secrets_go_over_private_ways_alone() {
        for (text, is_private) in [
            ("https://hub.test", true),
            ("http://127.0.0.1:3", true),
            ("http://[::1]:3", true),
            ("http://hub.test", false),
            ("http://127.0.0.1.hub.test", false),
        ] {
            assert_eq!(Url::parse(text).unwrap().is_private(), is_private, "{text}");
        }
    }
}
