//! One request on one connection: a dropped answer closes it, and the server stops.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, StatusCode, Uri,
    body::Incoming,
    client::conn::http1,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};

use super::{
    fault::{Fault, clipped},
    options::{Key, RemoteOptions},
};

/// The most bytes of an answer that is no stream.
pub(crate) const BODY_BYTES_MAX: usize = 64 << 20;
/// The most bytes of an answer that is an error.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// How to reach a server.
pub(crate) struct Client {
    /// As it is told to people: without `/v1`.
    pub(crate) url: String,
    host: String,
    port: u16,
    /// What stands before every path.
    base: String,
    tls: Option<Arc<ClientConfig>>,
    key: Option<Key>,
    pub(crate) connect: Duration,
    pub(crate) first_token: Duration,
    pub(crate) between_tokens: Duration,
    pub(crate) loading: Duration,
}

/// An answer that has begun.
pub(crate) struct Answer {
    pub(crate) headers: HeaderMap,
    body: Incoming,
    _connection: Connection,
}

/// A connection, with or without encryption.
trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// The task that moves the bytes; without it the connection is closed.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Client {
    pub(crate) fn new(options: &RemoteOptions) -> Result<Client, Fault> {
        let wrong = |why: &str| Fault::Address(why.to_owned());
        let text = options.url.trim();
        let uri: Uri = text.parse().map_err(|error| Fault::Address(format!("{error}")))?;
        let is_safe = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("it begins with neither http:// nor https://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(wrong("a key has no place in an address"));
        }
        let path = uri.path().trim_end_matches('/');
        let base = path.strip_suffix("/v1").unwrap_or(path).to_owned();
        let scheme = if is_safe { "https" } else { "http" };
        Ok(Client {
            url: format!("{scheme}://{authority}{base}"),
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(if is_safe { 443 } else { 80 }),
            base,
            tls: if is_safe { Some(Arc::new(trust()?)) } else { None },
            key: options.key.clone(),
            connect: options.connect,
            first_token: options.first_token,
            between_tokens: options.between_tokens,
            loading: options.loading,
        })
    }

    /// The JSON that `path` answers; `None`: there is no such path.
    pub(crate) async fn get(&self, path: &str) -> Result<Option<Value>, Fault> {
        match self.json(Method::GET, path, None).await {
            Err(Fault::Status { code: 404 | 405 | 501, .. }) => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// The JSON that a question is answered with.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Fault> {
        self.json(Method::POST, path, Some(body)).await
    }

    async fn json(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Fault> {
        let mut answer = self.begin(method, path, body).await?;
        let bytes = answer.rest(BODY_BYTES_MAX, self.first_token).await?;
        serde_json::from_slice(&bytes).map_err(|_| Fault::garbage(String::from_utf8_lossy(&bytes)))
    }

    /// Sends a request, and waits until it is answered by more than an error.
    pub(crate) async fn begin(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Fault> {
        let late = Fault::Silent { waiting_for: "connection", patience: self.connect };
        let stream = timeout(self.connect, self.connected()).await.map_err(|_| late)??;
        self.ask(stream, method, path, body).await
    }

    async fn connected(&self) -> Result<Box<dyn Wire>, Fault> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| Fault::Unreachable(error.to_string()))?;
        let _ = tcp.set_nodelay(true); // It is only slower without.
        match &self.tls {
            None => Ok(Box::new(tcp)),
            Some(trust) => Ok(Box::new(self.secured(trust, tcp).await?)),
        }
    }

    async fn secured(
        &self,
        trust: &Arc<ClientConfig>,
        tcp: TcpStream,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Fault> {
        let name = ServerName::try_from(self.host.clone())
            .map_err(|error| Fault::Unsafe(error.to_string()))?;
        let connector = TlsConnector::from(trust.clone());
        connector.connect(name, tcp).await.map_err(|error| Fault::Unsafe(error.to_string()))
    }

    async fn ask(
        &self,
        stream: Box<dyn Wire>,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Fault> {
        let lost = |error: hyper::Error| fault_of(&error, 0);
        let (mut sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        let connection = Connection(tokio::spawn(async move { drop(driver.await) }));
        let request = self.request(method, path, body)?;
        let answer = timeout(self.first_token, sender.send_request(request)).await;
        let late = Fault::Silent { waiting_for: "answer", patience: self.first_token };
        let answer = answer.map_err(|_| late)?.map_err(lost)?;
        let (parts, body) = answer.into_parts();
        let mut answer = Answer { headers: parts.headers, body, _connection: connection };
        if parts.status.is_success() {
            return Ok(answer);
        }
        Err(self.refusal(parts.status, &mut answer).await)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Request<Full<Bytes>>, Fault> {
        let is_odd = |port: u16| port != if self.tls.is_some() { 443 } else { 80 };
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let host = if is_odd(self.port) { format!("{host}:{}", self.port) } else { host };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(HOST, host)
            .header(USER_AGENT, concat!("demolish/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/json");
        if let Some(key) = &self.key {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", key.shown()))
                .map_err(|error| Fault::Address(error.to_string()))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let bytes = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        request.body(Full::new(bytes)).map_err(|error| Fault::Address(error.to_string()))
    }

    /// A fault as people are told it: one sentence with the address and a remedy, and without the key.
    pub(crate) fn told(&self, fault: &Fault) -> String {
        fault.at(&self.url, |text| self.masked(text))
    }

    /// A server's words as people are told them: without the key, in one line and not too long.
    pub(crate) fn quoted(&self, text: &str) -> String {
        clipped(&self.masked(text))
    }

    fn masked(&self, text: &str) -> String {
        self.key.as_ref().map_or_else(|| text.to_owned(), |key| key.masked(text))
    }

    /// What it says instead of answering.
    async fn refusal(&self, status: StatusCode, answer: &mut Answer) -> Fault {
        let after = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        let bytes = answer.rest(ERROR_BYTES_MAX, self.between_tokens).await.unwrap_or_default();
        let said = said(&bytes);
        Fault::Status { code: status.as_u16(), said, retry_after }
    }
}

impl Answer {
    /// The next bytes; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, hyper::Error> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    async fn rest(&mut self, bytes_max: usize, patience: Duration) -> Result<Vec<u8>, Fault> {
        let mut bytes = Vec::new();
        // For all of it: one that trickles would otherwise be waited for as long as it likes.
        let until = Instant::now() + patience;
        loop {
            let late = Fault::Silent { waiting_for: "end of the answer", patience };
            let piece = timeout_at(until, self.next()).await.map_err(|_| late)?;
            let Some(piece) = piece.map_err(|error| fault_of(&error, bytes.len().min(1)))? else {
                return Ok(bytes);
            };
            if bytes.len() + piece.len() > bytes_max {
                return Err(Fault::Endless { bytes_max });
            }
            bytes.extend_from_slice(&piece);
        }
    }
}

/// What the protocol's library says, in our words. `after`: how many pieces had come.
pub(crate) fn fault_of(error: &hyper::Error, after: usize) -> Fault {
    if error.is_parse() {
        return Fault::garbage(error);
    }
    if after == 0 && error.is_incomplete_message() {
        return Fault::HungUp;
    }
    Fault::Dropped { after }
}

/// The certificates that the system trusts (or `SSL_CERT_FILE` names).
fn trust() -> Result<ClientConfig, Fault> {
    let wrong = |error: tokio_rustls::rustls::Error| Fault::Unsafe(error.to_string());
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(wrong)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The message in an error's body: `{"error": {"message"}}`, `{"error"}`, `{"message"}`, `{"detail"}`, or what there is.
fn said(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let Ok(json) = serde_json::from_slice::<Value>(bytes) else {
        return text.into_owned();
    };
    let places = ["/error/message", "/error", "/message", "/detail"];
    let found = places.iter().find_map(|place| json.pointer(place)?.as_str());
    found.unwrap_or(&text).to_owned()
}
