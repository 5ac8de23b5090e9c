//! What a setting can hold, and how it is read and written.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value as Json;

/// A setting's type, as messages and the schema name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// A text.
    Text,
    /// A path, or nothing.
    Path,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// One of these whole numbers.
    Numbers(&'static [u8]),
    /// A list of texts.
    Texts,
    /// A table of lists of texts.
    TextsByName,
    /// A table of texts.
    TextByName,
}

impl Kind {
    /// As a noun with its article: `expected …`.
    #[must_use]
    pub fn words(self) -> String {
        match self {
            Kind::Boolean => "true or false".to_owned(),
            Kind::Integer => "a whole number".to_owned(),
            Kind::Number => "a number".to_owned(),
            Kind::Text => "a text".to_owned(),
            Kind::Path => "a path (a text)".to_owned(),
            Kind::Choice(words) => format!("one of {}", words.join(", ")),
            Kind::Numbers(numbers) => format!("one of {}", list(numbers, ", ")),
            Kind::Texts => "a list of texts".to_owned(),
            Kind::TextsByName => "a table of lists of texts".to_owned(),
            Kind::TextByName => "a table of texts".to_owned(),
        }
    }
}

/// Numbers with something between them.
pub(super) fn list(numbers: &[u8], between: &str) -> String {
    let words: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    words.join(between)
}

/// A type that a setting can have.
pub trait Value: Sized {
    /// Its kind.
    fn kind() -> Kind;
    /// Reads it; `Err` says what was expected.
    fn read(json: &Json) -> Result<Self, String>;
    /// Writes it as JSON.
    fn write(&self) -> Json;
}

fn expected<T: Value>() -> String {
    format!("expected {}", T::kind().words())
}

impl Value for bool {
    fn kind() -> Kind {
        Kind::Boolean
    }
    fn read(json: &Json) -> Result<Self, String> {
        json.as_bool().ok_or_else(expected::<Self>)
    }
    fn write(&self) -> Json {
        Json::from(*self)
    }
}

impl Value for u32 {
    fn kind() -> Kind {
        Kind::Integer
    }
    fn read(json: &Json) -> Result<Self, String> {
        let number = json.as_u64().ok_or_else(expected::<Self>)?;
        u32::try_from(number).map_err(|_| expected::<Self>())
    }
    fn write(&self) -> Json {
        Json::from(*self)
    }
}

impl Value for f64 {
    fn kind() -> Kind {
        Kind::Number
    }
    fn read(json: &Json) -> Result<Self, String> {
        json.as_f64().filter(|n| n.is_finite()).ok_or_else(expected::<Self>)
    }
    fn write(&self) -> Json {
        Json::from(*self)
    }
}

impl Value for String {
    fn kind() -> Kind {
        Kind::Text
    }
    fn read(json: &Json) -> Result<Self, String> {
        json.as_str().map(str::to_owned).ok_or_else(expected::<Self>)
    }
    fn write(&self) -> Json {
        Json::from(self.as_str())
    }
}

impl Value for Option<PathBuf> {
    fn kind() -> Kind {
        Kind::Path
    }
    fn read(json: &Json) -> Result<Self, String> {
        if json.is_null() {
            return Ok(None);
        }
        let text = json.as_str().ok_or_else(expected::<Self>)?;
        Ok((!text.is_empty()).then(|| PathBuf::from(text)))
    }
    fn write(&self) -> Json {
        self.as_ref().map_or(Json::Null, |path| Json::from(path.to_string_lossy()))
    }
}

impl Value for Option<String> {
    fn kind() -> Kind {
        Kind::Text
    }
    fn read(json: &Json) -> Result<Self, String> {
        if json.is_null() {
            return Ok(None);
        }
        let text = json.as_str().ok_or_else(expected::<Self>)?;
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }
    fn write(&self) -> Json {
        self.as_ref().map_or(Json::Null, |text| Json::from(text.as_str()))
    }
}

impl Value for Vec<String> {
    fn kind() -> Kind {
        Kind::Texts
    }
    fn read(json: &Json) -> Result<Self, String> {
        let items = json.as_array().ok_or_else(expected::<Self>)?;
        let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
        texts.collect::<Option<_>>().ok_or_else(expected::<Self>)
    }
    fn write(&self) -> Json {
        Json::from(self.clone())
    }
}

impl Value for BTreeMap<String, Vec<String>> {
    fn kind() -> Kind {
        Kind::TextsByName
    }
    fn read(json: &Json) -> Result<Self, String> {
        let table = json.as_object().ok_or_else(expected::<Self>)?;
        let rows = table.iter().map(|(name, list)| Ok((name.clone(), Vec::read(list)?)));
        rows.collect::<Result<_, String>>().map_err(|_| expected::<Self>())
    }
    fn write(&self) -> Json {
        serde_json::json!(self)
    }
}

impl Value for BTreeMap<String, String> {
    fn kind() -> Kind {
        Kind::TextByName
    }
    fn read(json: &Json) -> Result<Self, String> {
        let table = json.as_object().ok_or_else(expected::<Self>)?;
        let rows = table.iter().map(|(name, text)| Some((name.clone(), text.as_str()?.to_owned())));
        rows.collect::<Option<_>>().ok_or_else(expected::<Self>)
    }
    fn write(&self) -> Json {
        serde_json::json!(self)
    }
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Nothing but failures.
    Error,
    /// And what looks wrong.
    Warn,
    /// And what happens: starts, ends, connections.
    Info,
    /// And each request.
    Debug,
    /// And each message.
    Trace,
}

const LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace"];

impl LogLevel {
    /// As tracing's filter spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        LEVELS[self as usize]
    }
}

impl Value for LogLevel {
    fn kind() -> Kind {
        Kind::Choice(LEVELS)
    }
    fn read(json: &Json) -> Result<Self, String> {
        match json.as_str() {
            Some("error") => Ok(LogLevel::Error),
            Some("warn") => Ok(LogLevel::Warn),
            Some("info") => Ok(LogLevel::Info),
            Some("debug") => Ok(LogLevel::Debug),
            Some("trace") => Ok(LogLevel::Trace),
            _ => Err(expected::<Self>()),
        }
    }
    fn write(&self) -> Json {
        Json::from(self.as_str())
    }
}

/// Whether tokens are computed before they are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drafts {
    /// Where it pays and the model writes the same to the bit.
    Auto,
    /// Where it pays.
    On,
    /// Never.
    Off,
}

const DRAFTS: &[&str] = &["auto", "on", "off"];

impl Drafts {
    /// As the engine is told it.
    #[must_use]
    pub fn speculation(self) -> engine::Speculation {
        match self {
            Drafts::Auto => engine::Speculation::Auto,
            Drafts::On => engine::Speculation::On,
            Drafts::Off => engine::Speculation::Off,
        }
    }
}

impl Value for Drafts {
    fn kind() -> Kind {
        Kind::Choice(DRAFTS)
    }
    fn read(json: &Json) -> Result<Self, String> {
        match json.as_str() {
            Some("auto") => Ok(Drafts::Auto),
            Some("on") => Ok(Drafts::On),
            Some("off") => Ok(Drafts::Off),
            _ => Err(expected::<Self>()),
        }
    }
    fn write(&self) -> Json {
        Json::from(DRAFTS[*self as usize])
    }
}

/// From which confidence on suggestions are shown that nobody has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withhold {
    /// All of them.
    Off,
    /// Most of what is right, with some that is not.
    Low,
    /// Little that is wrong.
    High,
}

const WITHHOLDS: &[&str] = &["off", "low", "high"];

impl Withhold {
    /// As completion is told it.
    #[must_use]
    pub fn withhold(self) -> decode::Withhold {
        match self {
            Withhold::Off => decode::Withhold::Off,
            Withhold::Low => decode::Withhold::Low,
            Withhold::High => decode::Withhold::High,
        }
    }
}

impl Value for Withhold {
    fn kind() -> Kind {
        Kind::Choice(WITHHOLDS)
    }
    fn read(json: &Json) -> Result<Self, String> {
        match json.as_str() {
            Some("off") => Ok(Withhold::Off),
            Some("low") => Ok(Withhold::Low),
            Some("high") => Ok(Withhold::High),
            _ => Err(expected::<Self>()),
        }
    }
    fn write(&self) -> Json {
        Json::from(WITHHOLDS[*self as usize])
    }
}

/// Who is shown what nobody has typed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speculation {
    /// Whoever is fit for it, by memory and pace.
    Auto,
    /// A second instance, or nobody.
    Twin,
    /// The user's own server while nobody uses it, or nobody.
    Lease,
    /// Nobody.
    Off,
}

const SPECULATIONS: &[&str] = &["auto", "twin", "lease", "off"];

impl Value for Speculation {
    fn kind() -> Kind {
        Kind::Choice(SPECULATIONS)
    }
    fn read(json: &Json) -> Result<Self, String> {
        match json.as_str() {
            Some("auto") => Ok(Speculation::Auto),
            Some("twin") => Ok(Speculation::Twin),
            Some("lease") => Ok(Speculation::Lease),
            Some("off") => Ok(Speculation::Off),
            _ => Err(expected::<Self>()),
        }
    }
    fn write(&self) -> Json {
        Json::from(SPECULATIONS[*self as usize])
    }
}

/// The dialect of a project's SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SqlDialect {
    /// As its files show.
    Auto,
    /// SQLite's.
    Sqlite,
    /// PostgreSQL's.
    Postgres,
}

const SQL_DIALECTS: &[&str] = &["auto", "sqlite", "postgres"];

impl SqlDialect {
    /// As the checkers are told it; `None`: they look themselves.
    #[must_use]
    pub fn dialect(self) -> Option<sql::Dialect> {
        sql::Dialect::of_name(SQL_DIALECTS[self as usize])
    }
}

impl Value for SqlDialect {
    fn kind() -> Kind {
        Kind::Choice(SQL_DIALECTS)
    }
    fn read(json: &Json) -> Result<Self, String> {
        match json.as_str() {
            Some("auto") => Ok(SqlDialect::Auto),
            Some("sqlite") => Ok(SqlDialect::Sqlite),
            Some("postgres") => Ok(SqlDialect::Postgres),
            _ => Err(expected::<Self>()),
        }
    }
    fn write(&self) -> Json {
        Json::from(SQL_DIALECTS[*self as usize])
    }
}

/// Into how many bits keys and values of caches are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvBits {
    /// They are not packed.
    Unpacked,
    /// 4 bits.
    Four,
    /// 8 bits.
    Eight,
}

const KV_BITS: &[u8] = &[0, 4, 8];

impl KvBits {
    /// As the engine is told it.
    #[must_use]
    pub fn bits(self) -> Option<u8> {
        match self {
            KvBits::Unpacked => None,
            KvBits::Four => Some(4),
            KvBits::Eight => Some(8),
        }
    }
}

impl Value for KvBits {
    fn kind() -> Kind {
        Kind::Numbers(KV_BITS)
    }
    fn read(json: &Json) -> Result<Self, String> {
        match json.as_u64() {
            Some(0) => Ok(KvBits::Unpacked),
            Some(4) => Ok(KvBits::Four),
            Some(8) => Ok(KvBits::Eight),
            _ => Err(expected::<Self>()),
        }
    }
    fn write(&self) -> Json {
        Json::from(self.bits().unwrap_or(0))
    }
}
