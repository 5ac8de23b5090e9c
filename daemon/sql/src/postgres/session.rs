//! One connection to a PostgreSQL server: the greeting, and statements that are parsed and never run.

use std::io;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{ErrorFields, Header, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use super::address::{Address, Host};

/// The longest message of a server that is read; one that announces more is given up.
pub(super) const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// What the server is told of us: it lets us write nothing and wait for nothing long, whatever we ask.
const OPTIONS: &str =
    "-c default_transaction_read_only=on -c statement_timeout=1000 -c lock_timeout=200";

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection that was let in.
pub(super) struct Session {
    stream: Box<dyn Stream>,
    inbox: BytesMut,
}

/// What a server refuses a statement for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Five letters and digits.
    pub(super) state: String,
    pub(super) message: String,
    /// The character of the statement that it points at, from 1.
    pub(super) position: Option<usize>,
}

impl Session {
    /// Connects.
    pub(super) async fn open(address: &Address) -> io::Result<Session> {
        let stream: Box<dyn Stream> = match &address.host {
            Host::Socket(folder) => {
                let path = folder.join(format!(".s.PGSQL.{}", address.port));
                let named =
                    |error: io::Error| io::Error::other(format!("{}: {error}", path.display()));
                Box::new(UnixStream::connect(&path).await.map_err(named)?)
            }
            Host::Local(name) => {
                let stream = TcpStream::connect((name.as_str(), address.port)).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
        };
        let mut session = Session { stream, inbox: BytesMut::new() };
        session.greet(address).await?;
        Ok(session)
    }

    async fn greet(&mut self, address: &Address) -> io::Result<()> {
        let mut out = BytesMut::new();
        let parameters = [
            ("user", address.user.as_str()),
            ("database", &address.database),
            ("application_name", "demolish"),
            ("client_encoding", "UTF8"),
            ("options", OPTIONS),
        ];
        frontend::startup_message(parameters, &mut out)?;
        self.stream.write_all(&out).await?;
        let password = || {
            let lacking = || io::Error::other("the server wants a password, and none is set");
            address.password.as_deref().map(str::as_bytes).ok_or_else(lacking)
        };
        let mut scram = None;
        loop {
            let mut out = BytesMut::new();
            match self.next().await? {
                Message::AuthenticationCleartextPassword => {
                    frontend::password_message(password()?, &mut out)?;
                }
                Message::AuthenticationMd5Password(body) => {
                    let hash = md5_hash(address.user.as_bytes(), password()?, body.salt());
                    frontend::password_message(hash.as_bytes(), &mut out)?;
                }
                Message::AuthenticationSasl(_) => {
                    let started = ScramSha256::new(password()?, ChannelBinding::unsupported());
                    frontend::sasl_initial_response(SCRAM_SHA_256, started.message(), &mut out)?;
                    scram = Some(started);
                }
                Message::AuthenticationSaslContinue(body) => {
                    let scram = scram.as_mut().ok_or_else(|| odd("an answer to nothing"))?;
                    scram.update(body.data())?;
                    frontend::sasl_response(scram.message(), &mut out)?;
                }
                Message::AuthenticationSaslFinal(body) => {
                    scram
                        .as_mut()
                        .ok_or_else(|| odd("an answer to nothing"))?
                        .finish(body.data())?;
                }
                Message::ErrorResponse(body) => {
                    return Err(io::Error::other(refusal(body.fields())?.message));
                }
                Message::ReadyForQuery(_) => return Ok(()),
                Message::AuthenticationOk
                | Message::BackendKeyData(_)
                | Message::ParameterStatus(_)
                | Message::NoticeResponse(_) => {}
                _ => return Err(odd("a way to say who we are that is not known here")),
            }
            if !out.is_empty() {
                self.stream.write_all(&out).await?;
            }
        }
    }

    /// What the server has against each of `statements`, which it parses and analyses and does not run.
    pub(super) async fn parse(&mut self, statements: &[&str]) -> io::Result<Vec<Option<Refusal>>> {
        let mut out = BytesMut::new();
        for statement in statements {
            frontend::parse("", statement, [], &mut out)?;
            frontend::sync(&mut out);
        }
        let mut answers = Vec::with_capacity(statements.len());
        // A server that is not read stops reading: all is read while all is written.
        let (mut reader, mut writer) = tokio::io::split(&mut self.stream);
        let inbox = &mut self.inbox;
        let read = async {
            let mut refused = None;
            while answers.len() < statements.len() {
                match message(&mut reader, inbox).await? {
                    Message::ErrorResponse(body) => refused = Some(refusal(body.fields())?),
                    Message::ReadyForQuery(_) => answers.push(refused.take()),
                    _ => {}
                }
            }
            Ok(())
        };
        let ((), ()) = tokio::try_join!(read, writer.write_all(&out))?;
        Ok(answers)
    }

    async fn next(&mut self) -> io::Result<Message> {
        message(&mut self.stream, &mut self.inbox).await
    }
}

/// The next message.
async fn message(
    stream: &mut (impl AsyncRead + Unpin),
    inbox: &mut BytesMut,
) -> io::Result<Message> {
    loop {
        if let Some(header) = Header::parse(inbox)?
            && usize::try_from(header.len()).map_or(true, |len| len > MESSAGE_BYTES_MAX)
        {
            return Err(odd("a message that is too long"));
        }
        if let Some(message) = Message::parse(inbox)? {
            return Ok(message);
        }
        if stream.read_buf(inbox).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn refusal(mut fields: ErrorFields<'_>) -> io::Result<Refusal> {
    let mut refusal = Refusal { state: String::new(), message: String::new(), position: None };
    while let Some(field) = fields.next()? {
        let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => refusal.state = value,
            b'M' => refusal.message = value,
            b'P' => refusal.position = value.parse().ok(),
            _ => {}
        }
    }
    Ok(refusal)
}

fn odd(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the server sent {what}"))
}
