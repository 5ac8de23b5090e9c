//! Asking a server for something over http or https, with a limit to every wait.

use std::fmt::Display;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderMap, HeaderName, HeaderValue, LOCATION};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::{Patience, Token, Trouble, Url};

/// The most redirections in a row.
const REDIRECTS_MAX: usize = 8;
/// The most bytes of an answer that is read as a whole.
const TEXT_BYTES_MAX: usize = 64 << 20;

/// Asks one hub, and whoever it sends us to.
pub(super) struct Client {
    hub: Url,
    token: Option<Token>,
    pub(super) patience: Patience,
    tls: OnceLock<Result<TlsConnector, String>>,
}

/// The beginning of an answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    headers: HeaderMap,
    /// What the hub itself said before it sent us elsewhere.
    of_hub: HeaderMap,
    body: Incoming,
    stall: Duration,
    place: String,
}

/// What a connection is made of.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

impl Client {
    pub(super) fn new(
        hub: Url,
        token: Option<Token>,
        patience: Patience,
    ) -> Result<Client, Trouble> {
        if token.is_some() && !hub.is_private() {
            return Err(Trouble::Refused(format!(
                "the token in DEMOLISH_HUB_TOKEN is not sent to {hub}, since everybody on the way could read it; use https, or unset the variable"
            )));
        }
        Ok(Client { hub, token, patience, tls: OnceLock::new() })
    }

    pub(super) fn hub(&self) -> &Url {
        &self.hub
    }

    /// Asks for `url` and follows redirections.
    pub(super) async fn get(
        &self,
        url: &Url,
        headers: &[(HeaderName, String)],
    ) -> Result<Answer, Trouble> {
        let (mut url, mut of_hub) = (url.clone(), HeaderMap::new());
        for _ in 0..=REDIRECTS_MAX {
            let answer = self.ask(&url, headers).await?;
            if url.is_same_server(&self.hub) {
                for (name, value) in answer.headers() {
                    of_hub.insert(name.clone(), value.clone());
                }
            }
            let location = answer.headers().get(LOCATION);
            let location = location.filter(|_| answer.status().is_redirection());
            let Some(location) = location.and_then(|location| location.to_str().ok()) else {
                let (parts, body) = answer.into_parts();
                let (status, headers) = (parts.status, parts.headers);
                let (stall, place) = (self.patience.stall, url.to_string());
                return Ok(Answer { status, headers, of_hub, body, stall, place });
            };
            let next = url.towards(location).map_err(|why| {
                Trouble::Refused(format!("{url} sends us to a place that is none: {why}"))
            })?;
            if url.is_private() && !next.is_private() {
                return Err(Trouble::Refused(format!(
                    "{url} sends us to {next}, where anybody on the way could change what comes"
                )));
            }
            url = next;
        }
        Err(Trouble::Refused(format!("{url}: more than {REDIRECTS_MAX} redirections in a row")))
    }

    fn request(
        &self,
        url: &Url,
        headers: &[(HeaderName, String)],
    ) -> Result<Request<Empty<Bytes>>, Trouble> {
        let mut request = Request::get(&url.path)
            .header("host", url.authority())
            .header("user-agent", concat!("demolish/", env!("CARGO_PKG_VERSION")))
            .header("accept-encoding", "identity");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(Token(token)) = self.token.as_ref().filter(|_| url.is_same_server(&self.hub)) {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
                Trouble::Refused("DEMOLISH_HUB_TOKEN has characters that no token has".to_owned())
            })?;
            value.set_sensitive(true);
            request = request.header("authorization", value);
        }
        request
            .body(Empty::new())
            .map_err(|error| Trouble::Refused(format!("{url} cannot be asked for: {error}")))
    }

    async fn ask(
        &self,
        url: &Url,
        headers: &[(HeaderName, String)],
    ) -> Result<Response<Incoming>, Trouble> {
        let passing = |error: &dyn Display| Trouble::Passing(format!("{url}: {error}"));
        let request = self.request(url, headers)?;
        let wire = TokioIo::new(self.connect(url).await?);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(wire).await.map_err(|error| passing(&error))?;
        // It ends when the answer is dropped.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        let patience = self.patience.answer;
        match timeout(patience, sender.send_request(request)).await {
            Ok(answer) => answer.map_err(|error| passing(&error)),
            Err(_) => Err(passing(&format!("no answer within {} s", patience.as_secs_f32()))),
        }
    }

    async fn connect(&self, url: &Url) -> Result<Box<dyn Wire>, Trouble> {
        let passing =
            |error: &dyn Display| Trouble::Passing(format!("{url} cannot be reached: {error}"));
        let patience = self.patience.connect;
        let late = format!("no connection within {} s", patience.as_secs_f32());
        let plain = timeout(patience, TcpStream::connect((url.bare_host(), url.port))).await;
        let plain = plain.map_err(|_| passing(&late))?.map_err(|error| passing(&error))?;
        if !url.is_secure {
            return Ok(Box::new(plain));
        }
        let connector = self.tls.get_or_init(connector).as_ref();
        let connector = connector.map_err(|error| Trouble::Away(error.clone()))?;
        let name = ServerName::try_from(url.bare_host().to_owned()).map_err(|_| {
            Trouble::Refused(format!("{url} has no host that a certificate could name"))
        })?;
        let secure = timeout(patience, connector.connect(name, plain)).await;
        Ok(Box::new(secure.map_err(|_| passing(&late))?.map_err(|error| passing(&error))?))
    }
}

/// Trusts whom the system trusts.
fn connector() -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("the system has no certificates to trust; install ca-certificates".to_owned());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

impl Answer {
    /// A header of the answer, if it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A header of what the hub itself said.
    pub(super) fn hub_header(&self, name: &str) -> Option<&str> {
        self.of_hub.get(name)?.to_str().ok()
    }

    /// More of it; `None`: that was all.
    pub(super) async fn more(&mut self) -> Result<Option<Bytes>, Trouble> {
        loop {
            let frame = timeout(self.stall, self.body.frame()).await.map_err(|_| {
                let stall = self.stall.as_secs_f32();
                Trouble::Passing(format!("{}: nothing came for {stall} s", self.place))
            })?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => {
                    return Err(Trouble::Passing(format!("{}: cut off ({error})", self.place)));
                }
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// All of it.
    pub(super) async fn text(mut self) -> Result<Vec<u8>, Trouble> {
        let mut whole = Vec::new();
        while let Some(bytes) = self.more().await? {
            if whole.len() + bytes.len() > TEXT_BYTES_MAX {
                let mib = TEXT_BYTES_MAX >> 20;
                return Err(Trouble::Refused(format!("{}: more than {mib} MiB", self.place)));
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(whole)
    }
}
