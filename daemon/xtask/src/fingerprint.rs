//! A short fingerprint of bytes, the same on every machine and with every compiler. Not for secrets.

/// The 64-bit hash of Fowler, Noll and Vo (FNV-1a), in hexadecimal digits.
pub(crate) fn of(bytes: &[u8]) -> String {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_published_one() {
        assert_eq!(of(b""), "cbf29ce484222325");
        assert_eq!(of(b"foobar"), "85944171f73967e8");
    }
}
