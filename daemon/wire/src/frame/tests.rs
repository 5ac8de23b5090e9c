//! The decoder against what peers really write.

use proptest::prelude::*;

use super::*;

/// All frames of `bytes`, given in two parts.
fn decode(bytes: &[u8], cut: usize) -> Vec<Frame> {
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    for part in [&bytes[..cut], &bytes[cut..]] {
        decoder.push(part);
        frames.extend(std::iter::from_fn(|| decoder.next_frame()));
    }
    frames
}

/// The bodies, and the junk joined.
fn sorted(frames: Vec<Frame>) -> (Vec<String>, String) {
    let (mut bodies, mut junk) = (Vec::new(), String::new());
    for frame in frames {
        match frame {
            Frame::Body(body) => bodies.push(String::from_utf8_lossy(&body).into_owned()),
            Frame::Junk(bytes) => junk.push_str(&String::from_utf8_lossy(&bytes)),
            Frame::TooLong { bytes, .. } => bodies.push(format!("<{bytes} bytes>")),
        }
    }
    (bodies, junk)
}

/// What a peer writes, the bodies in it, and what of it is junk.
const CORPUS: [(&str, &[&str], &str); 41] = [
    ("Content-Length: 2\r\n\r\n{}", &["{}"], ""),
    ("content-length: 2\r\n\r\n{}", &["{}"], ""),
    ("CONTENT-LENGTH:2\r\n\r\n{}", &["{}"], ""),
    ("Content-Length:   2   \r\n\r\n{}", &["{}"], ""),
    ("Content-Length: 2\n\n{}", &["{}"], ""),
    ("Content-Length: 2\r\n\n{}", &["{}"], ""),
    ("Content-Length: 002\r\n\r\n{}", &["{}"], ""),
    ("Content-Length: 0\r\n\r\nContent-Length: 2\r\n\r\n{}", &["", "{}"], ""),
    (
        "Content-Length: 2\r\nContent-Type: application/vscode-jsonrpc; charset=utf-8\r\n\r\n{}",
        &["{}"],
        "",
    ),
    ("Content-Type: x\r\nContent-Length: 2\r\n\r\n{}", &["{}"], ""),
    ("content-type: x\r\ncontent-length: 2\r\n\r\n{}", &["{}"], ""),
    ("Content-Length: 2\r\nX-Odd: 1\r\nX-Other: 2\r\n\r\n{}", &["{}"], ""),
    ("X-Odd: 1\r\nContent-Length: 2\r\n\r\n{}", &["{}"], "X-Odd: 1\r\n"),
    ("Content-Length: 9\r\nContent-Length: 2\r\n\r\n{}", &["{}"], ""),
    ("Content-Length: 2\r\n\r\n{}Content-Length: 2\r\n\r\n[]", &["{}", "[]"], ""),
    ("Content-Length: 2\r\n\r\n{}\r\nContent-Length: 2\r\n\r\n[]", &["{}", "[]"], ""),
    ("Content-Length: 2\r\n\r\n{}\n\n\nContent-Length: 2\r\n\r\n[]", &["{}", "[]"], ""),
    ("hello\nContent-Length: 2\r\n\r\n{}", &["{}"], "hello\n"),
    ("hello\r\n\r\nContent-Length: 2\r\n\r\n{}", &["{}"], "hello\r\n"),
    ("helloContent-Length: 2\r\n\r\n{}", &["{}"], "hello"),
    ("debug: Content-Length: 2\r\n\r\n{}", &["{}"], "debug: "),
    (
        "Content-Length is a header\nContent-Length: 2\r\n\r\n{}",
        &["{}"],
        "Content-Length is a header\n",
    ),
    ("Content-Length: many\r\nContent-Length: 2\r\n\r\n{}", &["{}"], "Content-Length: many\r\n"),
    ("Content-Length: -2\r\n\r\nContent-Length: 2\r\n\r\n{}", &["{}"], "Content-Length: -2\r\n"),
    ("Content-Length: 2x\r\n\r\nContent-Length: 2\r\n\r\n{}", &["{}"], "Content-Length: 2x\r\n"),
    ("Content-Length:\r\n\r\nContent-Length: 2\r\n\r\n{}", &["{}"], "Content-Length:\r\n"),
    (
        "Content-Length: 99999999999999999999999\r\nContent-Length: 2\r\n\r\n{}",
        &["{}"],
        "Content-Length: 99999999999999999999999\r\n",
    ),
    (
        "Content-Length: 99999999999999\r\n\r\nContent-Length: 2\r\n\r\n{}",
        &["{}"],
        "Content-Length: 99999999999999\r\n",
    ),
    ("\r\n\r\n\r\nContent-Length: 2\r\n\r\n{}", &["{}"], ""),
    (
        "INFO: started\nWARN: cold\nContent-Length: 2\r\n\r\n{}",
        &["{}"],
        "INFO: started\nWARN: cold\n",
    ),
    ("Content-Length: 2\r\nnoise\r\n\r\n{}", &["{}"], "noise\r\n"),
    ("{\"stray\":1}\nContent-Length: 2\r\n\r\n{}", &["{}"], "{\"stray\":1}\n"),
    ("{\"stray\":1}Content-Length: 2\r\n\r\n{}", &["{}"], "{\"stray\":1}"),
    ("\u{feff}Content-Length: 2\r\n\r\n{}", &["{}"], "\u{feff}"),
    ("\0\0Content-Length: 2\r\n\r\n{}", &["{}"], "\0\0"),
    ("\u{1b}[31mred\u{1b}[0m\nContent-Length: 2\r\n\r\n{}", &["{}"], "\u{1b}[31mred\u{1b}[0m\n"),
    ("Content-Length: 4\r\n\r\n\"é\"", &["\"é\""], ""),
    ("Content-Length: 6\r\n\r\n\r\n\r\n{}", &["\r\n\r\n{}"], ""),
    ("a:b\n:c\nd\nContent-Length: 2\r\n\r\n{}", &["{}"], "a:b\n:c\nd\n"),
    ("Content-Length: 2\r\n\r\n{}trailing", &["{}"], ""),
    ("Content-Length: 2\r\n\r\n{}Content-Len", &["{}"], ""),
];

#[test]
fn rule_4_1_the_corpus_split_at_every_byte() {
    for (bytes, bodies, junk) in CORPUS {
        for cut in 0..=bytes.len() {
            let (found, rest) = sorted(decode(bytes.as_bytes(), cut));
            assert_eq!((&found[..], &*rest), (&bodies.map_owned()[..], junk), "{bytes:?} at {cut}");
        }
    }
}

trait Owned {
    fn map_owned(&self) -> Vec<String>;
}

impl Owned for &[&str] {
    fn map_owned(&self) -> Vec<String> {
        self.iter().map(|body| (*body).to_owned()).collect()
    }
}

#[test]
fn rule_4_1_after_any_of_the_corpus_a_good_frame_is_found() {
    for (bytes, bodies, _) in CORPUS {
        let both = format!("{bytes}\nContent-Length: 4\r\n\r\ngood");
        let (found, _) = sorted(decode(both.as_bytes(), both.len()));
        assert_eq!(found.last().map(String::as_str), Some("good"), "{bytes:?}");
        assert_eq!(found.len(), bodies.len() + 1, "{bytes:?}");
    }
}

#[test]
fn rule_4_1_endless_junk_takes_no_memory_and_hides_nothing() {
    let mut decoder = Decoder::default();
    let mut junk = 0;
    for _ in 0..1000 {
        decoder.push(&[b'x'; 1000]);
        while let Some(Frame::Junk(bytes)) = decoder.next_frame() {
            junk += bytes.len();
        }
        assert!(decoder.buffer().len() <= HEADER_BYTES_MAX + 1000);
    }
    decoder.push(b"Content-Length: 2\r\n\r\n{}");
    let rest: Vec<Frame> = std::iter::from_fn(|| decoder.next_frame()).collect();
    let (bodies, more) = sorted(rest);
    assert_eq!((bodies, junk + more.len()), (vec!["{}".to_owned()], 1_000_000));
}

#[test]
fn rule_4_1_too_many_headers_are_junk() {
    let mut bytes = b"Content-Length: 2\r\n".to_vec();
    bytes.extend(b"X-A: 1\r\n".repeat(HEADERS_MAX + 1));
    bytes.extend(b"\r\nContent-Length: 4\r\n\r\ngood");
    assert_eq!(sorted(decode(&bytes, 10)).0, ["good"]);
}

#[test]
fn rule_4_4_a_body_that_is_too_long_is_skipped_and_told_from_its_ends() {
    let mut decoder = Decoder::default();
    let bytes = FRAME_BYTES_MAX + 5;
    decoder.push(format!("Content-Length: {bytes}\r\n\r\n").as_bytes());
    let chunk = vec![b'x'; 1 << 20];
    decoder.push(b"head ");
    let mut left = bytes - 5;
    while left > 0 {
        let now = left.min(chunk.len());
        decoder.push(&chunk[..now]);
        left -= now;
        if left > 0 {
            assert_eq!(decoder.next_frame(), None);
            assert!(decoder.buffer().is_empty(), "nothing is kept");
        }
    }
    decoder.push(b"Content-Length: 4\r\n\r\ngood");
    let Some(Frame::TooLong { bytes: told, head, tail }) = decoder.next_frame() else { panic!() };
    assert_eq!((told, head.len(), tail.len()), (bytes, HEAD_BYTES, TAIL_BYTES));
    assert!(head.starts_with(b"head x"));
    assert_eq!(decoder.next_frame(), Some(Frame::Body("good".into())));
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(bodies in proptest::collection::vec(".{0,40}", 0..6), cuts in proptest::collection::vec(0usize..300, 0..6)) {
        let mut bytes = BytesMut::new();
        for body in &bodies {
            encode_into(&mut bytes, body.as_bytes());
        }
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.sort_unstable();
        let (mut decoder, mut found, mut start) = (Decoder::default(), Vec::new(), 0);
        for end in cuts.into_iter().chain([bytes.len()]) {
            decoder.push(&bytes[start..end]);
            start = end;
            found.extend(std::iter::from_fn(|| decoder.next_frame()));
        }
        let (found, junk) = sorted(found);
        prop_assert_eq!((found, junk), (bodies, String::new()));
        prop_assert!(decoder.is_between_frames());
    }

    #[test]
    fn nothing_makes_the_decoder_panic_or_loop(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let frames = decode(&bytes, bytes.len() / 2);
        prop_assert!(frames.len() <= bytes.len() + 1);
    }
}
