//! `Accept-Encoding` (RFC 9110, section 12.5.3): which coding a client would like best.

use super::Coding;
use crate::servers::http::fields::list;

/// The coding with the highest weight; of equals the first of `ours`. `None` when nothing, or no encoding, is wanted
/// more. A client that sends no such field has not said that it understands any.
pub fn choose(accepted: &[&[u8]], ours: &[Coding]) -> Option<Coding> {
    let mut weights: [Option<u16>; 3] = [None; 3];
    let (mut identity, mut others) = (None, None);
    for (token, weight) in accepted.iter().flat_map(|value| list(value)).filter_map(member) {
        let is = |known: &str| token.eq_ignore_ascii_case(known.as_bytes());
        if is("gzip") || is("x-gzip") {
            weights[Coding::Gzip as usize] = Some(weight);
        } else if is("br") {
            weights[Coding::Brotli as usize] = Some(weight);
        } else if is("zstd") {
            weights[Coding::Zstd as usize] = Some(weight);
        } else if is("identity") {
            identity = Some(weight);
        } else if token == b"*" {
            others = Some(weight);
        }
    }
    let mut best: Option<(Coding, u16)> = None;
    for coding in ours {
        let weight = weights[*coding as usize].or(others).unwrap_or(0);
        if weight > best.map_or(0, |(_, weight)| weight) {
            best = Some((*coding, weight));
        }
    }
    best.filter(|(_, weight)| *weight >= identity.unwrap_or(0)).map(|(coding, _)| coding)
}

/// A coding and its weight in thousandths. One with a malformed weight is as good as not mentioned.
fn member(item: &[u8]) -> Option<(&[u8], u16)> {
    let mut parts = item.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let token = parts.next()?;
    match parts.next() {
        None => Some((token, 1000)),
        Some(parameter) => {
            let value = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="))?;
            Some((token, thousandths(value)?))
        }
    }
}

/// `0`, `0.`, `0.1` up to `1.000`.
fn thousandths(value: &[u8]) -> Option<u16> {
    let (whole, fraction) = match value.split_first()? {
        (whole @ (b'0' | b'1'), []) => (whole, &[][..]),
        (whole @ (b'0' | b'1'), [b'.', fraction @ ..]) if fraction.len() <= 3 => (whole, fraction),
        _ => return None,
    };
    let mut total = u16::from(whole - b'0') * 1000;
    for (digit, unit) in fraction.iter().zip([100, 10, 1]) {
        total += u16::from(digit.is_ascii_digit().then(|| digit - b'0')?) * unit;
    }
    (total <= 1000).then_some(total)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Coding; 3] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];

    fn chosen(accepted: &str) -> &'static str {
        choose(&[accepted.as_bytes()], &ALL).map_or("", Coding::token)
    }

    #[test]
    fn the_highest_weight_wins() {
        assert_eq!(chosen("gzip, deflate, br, zstd"), "zstd");
        assert_eq!(chosen("gzip;q=1.0, br;q=0.9, zstd;q=0.999"), "gzip");
        assert_eq!(chosen("br ; q=0.5 , gzip;q=0.5"), "br");
        assert_eq!(chosen("X-GZIP"), "gzip");
        assert_eq!(chosen("*"), "zstd");
        assert_eq!(chosen("*;q=0.5, zstd;q=0"), "br");
    }

    #[test]
    fn nothing_is_wanted() {
        for accepted in ["", "deflate", "gzip;q=0", "identity", "*;q=0", "gzip;q=0.4, identity;q=0.5", "gzip;q=2"] {
            assert_eq!(chosen(accepted), "", "{accepted}");
        }
        assert_eq!(choose(&[], &ALL), None);
        assert_eq!(choose(&[b"gzip, br"], &[]), None);
    }

    #[test]
    fn malformed_weights() {
        for weight in ["", "1.001", "0.0000", "-1", "0,5", ".5", "1e0", "0.x"] {
            assert_eq!(chosen(&format!("gzip;q={weight}")), "", "{weight}");
        }
        assert_eq!(chosen("gzip;level=9"), "");
    }

    proptest! {
        #[test]
        fn never_panics_and_never_invents(value in "[ -~]{0,60}") {
            let found = choose(&[value.as_bytes()], &ALL);
            if let Some(coding) = found {
                prop_assert!(value.contains('*') || value.to_ascii_lowercase().contains(coding.token()));
            }
        }
    }
}
