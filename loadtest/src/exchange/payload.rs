//! What is sent: a number, so that loss and doubles are seen, a time stamp, and padding.

use anyhow::Context;

use crate::clock::monotonic_ns;

/// The event of every trigger and broadcast.
pub(crate) const EVENT: &str = "load";

/// The data of item `number`, a JSON object of about `bytes` bytes.
pub(crate) fn data(number: u64, bytes: usize) -> String {
    let mut text = format!(r#"{{"n":{number},"t":{},"p":""#, monotonic_ns());
    while text.len() + 2 < bytes {
        text.push('x');
    }
    text.push_str("\"}");
    text
}

/// The number and the time stamp in a text that holds such data somewhere.
///
/// # Errors
/// It does not.
pub(crate) fn read(text: &[u8]) -> anyhow::Result<(u64, u64)> {
    let number = |name: &[u8]| {
        let start = text.windows(name.len()).position(|window| window == name)? + name.len();
        let digits = text[start..].iter().take_while(|byte| byte.is_ascii_digit());
        Some(digits.fold(0_u64, |value, digit| value * 10 + u64::from(digit - b'0')))
    };
    let found = number(b"\"n\":").zip(number(b"\"t\":"));
    found.with_context(|| format!("{:?} is none of ours", String::from_utf8_lossy(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_read() {
        let data = data(17, 128);
        assert_eq!(data.len(), 128);
        let (number, sent_ns) = read(format!(r#"{{"load":{data}}}"#).as_bytes()).expect("it is ours");
        assert_eq!(number, 17);
        assert!(sent_ns <= monotonic_ns() && sent_ns > 0);
        read(b"{}").expect_err("nothing of ours");
    }
}
