use proptest::{collection::vec, prelude::*, sample::Index};

use super::{fuzz::serde_json_finds_the_same, *};

/// A JSON string: any length, any escape, lone surrogates too.
fn string() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => "[a-z ]{0,12}",
        2 => "[\\PC&&[^\"\\\\]]{0,4}",
        2 => r#"\\["\\/bfnrt]"#,
        1 => "\\\\u[0-9a-fA-F]{4}",
        1 => Just(r"\ud800".to_owned()),
        1 => Just("[{,:}]".to_owned()),
    ];
    vec(piece, 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn number() -> impl Strategy<Value = String> {
    r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,3})?([eE][+-]?[0-9]{1,4})?"
}

/// Nothing, mostly, or space.
fn space() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just(String::new()), 1 => "[ \t\r\n]{1,3}"]
}

/// Names that mean something, plain or escaped, and others.
fn key() -> impl Strategy<Value = String> {
    const KNOWN: &[&str] = &[
        "\"channel\"",
        "\"event\"",
        "\"data\"",
        "\"sid\"",
        "\"ref\"",
        "\"user\"",
        "\"trigger\"",
        "\"d\\u0061ta\"",
        "\"s\\u0069d\"",
        "\"ch\\u0061nnel\"",
    ];
    prop_oneof![3 => proptest::sample::select(KNOWN).prop_map(str::to_owned), 1 => string()]
}

/// An object of values of `value`, keys doubled now and then.
fn object(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    vec((space(), key(), space(), value), 0..4).prop_map(|members| {
        let member = |(before, key, behind, value)| format!("{before}{key}{behind}:{value}");
        format!("{{{}}}", members.into_iter().map(member).collect::<Vec<_>>().join(","))
    })
}

/// A JSON text.
fn json() -> impl Strategy<Value = String> {
    let literal = prop_oneof![Just("true".to_owned()), Just("false".to_owned()), Just("null".to_owned())];
    prop_oneof![string(), number(), literal].prop_recursive(4, 24, 4, |inner| {
        let spaced =
            (space(), inner, space()).prop_map(|(before, value, behind)| before + &value + &behind).boxed();
        prop_oneof![
            1 => vec(spaced.clone(), 0..4).prop_map(|elements| format!("[{}]", elements.join(","))),
            2 => object(spaced),
        ]
    })
}

/// A client's message, and what is almost one: a character is taken away, put in or replaced.
pub(crate) fn message() -> impl Strategy<Value = String> {
    let whole = prop_oneof![
        1 => json(),
        2 => object(json()),
        4 => (key(), object(json()), object(json())).prop_map(|(event, payload, more)| {
            let more = more.strip_prefix("{}").map_or(format!(",{}", &more[1..]), |_| "}".to_owned());
            format!("{{{event}:{payload}{more}")
        }),
    ];
    let damage =
        (any::<Index>(), any::<bool>(), "[\\[\\]{}\",:\\\\a-fu0-9.+\u{0}\u{1f}\u{7f}\u{feff} -]{0,2}");
    (whole, proptest::option::of(damage)).prop_map(|(mut text, damage)| {
        if let Some((place, is_replaced, put)) = damage {
            let boundaries: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let place = place.index(boundaries.len());
            let end = boundaries[(place + usize::from(is_replaced)).min(boundaries.len() - 1)];
            text.replace_range(boundaries[place]..end, &put);
        }
        text
    })
}

#[test]
fn values_stand_alone() {
    for good in [" 1 ", "-0.5e+7", "\"\"", "[ ]", "{ }", "[1,{}]", "true", "null", r#""\ud800""#, "1e999"] {
        assert_eq!(Json::parse(good).map(Json::text), Ok(good.trim()), "{good}");
    }
    for bad in
        ["", " ", "01", "1.", ".5", "-", "1e", "+1", "tru", "nulll", "1 2", "[1,]", "{,}", "[", "{\"a\" 1}"]
    {
        assert_eq!(Json::parse(bad), Err(NotJson::Malformed), "{bad}");
    }
    for bad in
        ["\"", "\"\\", "\"\\\"", r#""\u12"#, r#""\u12g4""#, r#""\x""#, "\"\t\"", "\"a\0\"", "\u{feff}1"]
    {
        assert_eq!(Json::parse(bad), Err(NotJson::Malformed), "{bad}");
    }
}

#[test]
fn depth_is_limited() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(Json::parse(&nested(DEPTH_MAX)).is_ok());
    assert_eq!(Json::parse(&nested(DEPTH_MAX + 1)), Err(NotJson::TooDeep));
    assert_eq!(Json::parse(&"{\"a\":".repeat(100_000)), Err(NotJson::TooDeep));
    assert!(Json::parse(&format!("[{}[]]", "[],".repeat(500))).is_ok());
}

#[test]
fn elements_in_order() {
    let elements = |text| Json::parse(text).unwrap().elements();
    let texts =
        |text| elements(text).map(|elements| elements.into_iter().map(Json::text).collect::<Vec<_>>());
    assert_eq!(texts(r#"[ 1, [2] ,{"a":3}]"#), Some(vec!["1", "[2]", r#"{"a":3}"#]));
    assert_eq!(texts("[]"), Some(vec![]));
    assert_eq!(texts("{}"), None);
}

/// A string ends where its first special byte stands, wherever in a word that is and whatever stands behind it.
#[test]
fn plain_bytes_end_at_the_first_that_is_not() {
    for end in 0..=255u8 {
        let is_plain = !matches!(end, b'"' | b'\\' | 0..b' ');
        for at in 0..WORD_BYTES {
            for rest in [b'x', b'!', b'#', b' ', 0x80, 0xff] {
                let mut word = [rest; WORD_BYTES];
                word[at] = end;
                assert_eq!(
                    plain_bytes(word),
                    if is_plain { WORD_BYTES } else { at },
                    "{end} at {at}, {rest}"
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn serde_json_takes_the_same(text in message()) {
        serde_json_finds_the_same(&text);
    }

    #[test]
    fn serde_json_takes_the_same_of_anything(text in "\\PC{0,80}|[\\[\\]{}\":,a1\\\\]{0,60}|[-+.eE01]{0,8}") {
        serde_json_finds_the_same(&text);
    }
}
