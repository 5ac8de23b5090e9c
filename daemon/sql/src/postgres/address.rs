//! Where a PostgreSQL server is, as its own programs write it: `postgresql://user:password@host:port/database`, or `host=… dbname=…`. Pure.

use std::fmt;
use std::path::PathBuf;

/// A server on this machine, and as whom to greet it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address {
    pub(super) host: Host,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: Option<String>,
    pub(super) database: String,
}

/// How it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Host {
    /// The folder of its socket.
    Socket(PathBuf),
    /// A name or number of this machine.
    Local(String),
}

/// Without the password.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({:?} {} {} {})", self.host, self.port, self.user, self.database)
    }
}

/// Where Debian and most others put the socket.
const SOCKETS: &str = "/var/run/postgresql";
/// PostgreSQL's own.
const PORT: u16 = 5432;
/// Names of this machine.
const LOCAL: &[&str] = &["localhost", "127.0.0.1", "::1"];

impl Address {
    /// Reads a connection string; `user` is who asks where it names nobody.
    ///
    /// # Errors
    /// It is none, names another machine (what is written would cross the network unencrypted), or a word that is not known: one sentence.
    pub fn parse(text: &str, user: &str) -> Result<Address, String> {
        let mut words = Words::default();
        let rest = text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://"));
        match rest {
            Some(rest) => words.of_url(rest)?,
            None => words.of_pairs(text)?,
        }
        let user = words.user.unwrap_or_else(|| user.to_owned());
        let host = match words.host.as_deref() {
            None | Some("") => Host::Socket(SOCKETS.into()),
            Some(path) if path.starts_with('/') => Host::Socket(path.into()),
            Some(name) if LOCAL.contains(&name) => Host::Local(name.to_owned()),
            Some(name) => {
                return Err(format!(
                    "`{name}` is another machine, and texts would go there unencrypted: name a socket or localhost (a tunnel)"
                ));
            }
        };
        let port = match words.port.as_deref().filter(|port| !port.is_empty()) {
            Some(port) => port.parse().map_err(|_| format!("`{port}` is no port"))?,
            None => PORT,
        };
        let database =
            words.database.filter(|name| !name.is_empty()).unwrap_or_else(|| user.clone());
        Ok(Address { host, port, user, password: words.password, database })
    }
}

#[derive(Default)]
struct Words {
    host: Option<String>,
    port: Option<String>,
    user: Option<String>,
    password: Option<String>,
    database: Option<String>,
}

impl Words {
    fn set(&mut self, key: &str, value: String) -> Result<(), String> {
        match key {
            "host" | "hostaddr" => self.host = Some(value),
            "port" => self.port = Some(value),
            "user" => self.user = Some(value),
            "password" => self.password = Some(value),
            "dbname" => self.database = Some(value),
            "sslmode" if !["disable", "allow", "prefer"].contains(&value.as_str()) => {
                return Err(format!("`sslmode={value}` is not to be had: nothing here speaks TLS"));
            }
            // What is said to every server, and makes no difference here.
            "sslmode" | "application_name" | "connect_timeout" | "target_session_attrs" => {}
            _ => return Err(format!("`{key}` is not known in a connection string")),
        }
        Ok(())
    }

    fn of_url(&mut self, rest: &str) -> Result<(), String> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (place, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (who, place) = place.rsplit_once('@').unwrap_or(("", place));
        let (user, password) = who.split_once(':').map_or((who, None), |(u, p)| (u, Some(p)));
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.trim_start_matches(':')),
            None => place.rsplit_once(':').unwrap_or((place, "")),
        };
        self.database = Some(decoded(database)?);
        self.host = Some(decoded(host)?);
        self.port = Some(port.to_owned());
        self.user = Some(decoded(user)?).filter(|user| !user.is_empty());
        self.password = password.map(decoded).transpose()?;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            self.set(key, decoded(value)?)?;
        }
        Ok(())
    }

    fn of_pairs(&mut self, text: &str) -> Result<(), String> {
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (key, after) =
                rest.split_once('=').ok_or_else(|| format!("`{rest}` is no connection string"))?;
            let (value, after) = value(after.trim_start())?;
            self.set(key.trim(), value)?;
            rest = after.trim_start();
        }
        Ok(())
    }
}

/// The value that `text` starts with, in quotes where it has blanks, and what follows it.
fn value(text: &str) -> Result<(String, &str), String> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut letters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            _ if !quoted && letter.is_whitespace() => return Ok((value, &text[at..])),
            _ => value.push(letter),
        }
    }
    if quoted {
        Err("a quote in the connection string is not closed".to_owned())
    } else {
        Ok((value, ""))
    }
}

/// `%2F` is `/`.
fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let code =
            after.get(..2).filter(|_| *first == b'%').and_then(|two| std::str::from_utf8(two).ok());
        match code.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).map_err(|_| "the connection string is no text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_strings_are_read_as_postgresql_s_own_programs_read_them() {
        let check = |text: &str, expected: &str| {
            let came = match Address::parse(text, "me") {
                Ok(address) => {
                    format!("{address:?} {}", address.password.as_deref().unwrap_or_default())
                }
                Err(message) => message,
            };
            assert_eq!(came.trim_end(), expected, "{text}");
        };
        check("", "Address(Socket(\"/var/run/postgresql\") 5432 me me)");
        check("dbname=shop", "Address(Socket(\"/var/run/postgresql\") 5432 me shop)");
        check(
            r"host=/tmp/a user = you password='p \'q' port=1",
            "Address(Socket(\"/tmp/a\") 1 you you) p 'q",
        );
        check(
            "postgresql://you:p%40q@localhost:5433/shop?sslmode=prefer",
            "Address(Local(\"localhost\") 5433 you shop) p@q",
        );
        check("postgres:///shop?host=/tmp/a", "Address(Socket(\"/tmp/a\") 5432 me shop)");
        check("postgres://%2Ftmp%2Fa/shop", "Address(Socket(\"/tmp/a\") 5432 me shop)");
        check("postgres://[::1]:6/shop", "Address(Local(\"::1\") 6 me shop)");
        check(
            "host=db.example.org",
            "`db.example.org` is another machine, and texts would go there unencrypted: name a socket or localhost (a tunnel)",
        );
        check(
            "host=localhost sslmode=require",
            "`sslmode=require` is not to be had: nothing here speaks TLS",
        );
        check("shop", "`shop` is no connection string");
        check("port=x", "`x` is no port");
        check("options=-cx", "`options` is not known in a connection string");
        check("password='x", "a quote in the connection string is not closed");
    }
}
