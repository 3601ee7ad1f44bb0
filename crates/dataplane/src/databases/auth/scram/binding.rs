//! What ties a SCRAM exchange to the TLS connection that it is made on: `tls-server-end-point` (RFC 5929, section 4).

use ring::digest::{self, Algorithm, SHA256, SHA384, SHA512};

/// The GS2 header of an exchange that is bound so.
pub const END_POINT_HEADER: &str = "p=tls-server-end-point,,";

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;
/// The first parameter of RSASSA-PSS, explicitly tagged.
const PSS_HASH: u8 = 0xa0;

/// PKCS #1 without its last number (RFC 8017, appendix A.2): 4 MD5, 5 SHA-1, 10 PSS, 11 SHA-256, 12 SHA-384, 13 SHA-512.
const RSA: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
const ECDSA_SHA1: [u8; 7] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
/// ECDSA with SHA-2 without its last number (RFC 5758, section 3.2): 2 SHA-256, 3 SHA-384, 4 SHA-512.
const ECDSA: [u8; 7] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
/// SHA-2 without its last number (RFC 8017, appendix B.1): 1 SHA-256, 2 SHA-384, 3 SHA-512.
const SHA2: [u8; 8] = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
const SHA1: [u8; 5] = [0x2b, 0x0e, 0x03, 0x02, 0x1a];

/// The binding to a certificate in DER: its digest with the hash of its signature, where MD5 and SHA-1 give way to SHA-256.
/// `None` for signatures without a single hash, such as Ed25519, and for SHA-224.
pub fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (id, parameters) = signature_algorithm(certificate)?;
    let algorithm = if id == ECDSA_SHA1 {
        &SHA256
    } else {
        match id.split_last()? {
            (4 | 5 | 11, prefix) if prefix == RSA => &SHA256,
            (12, prefix) if prefix == RSA => &SHA384,
            (13, prefix) if prefix == RSA => &SHA512,
            (10, prefix) if prefix == RSA => pss_hash(parameters)?,
            (2, prefix) if prefix == ECDSA => &SHA256,
            (3, prefix) if prefix == ECDSA => &SHA384,
            (4, prefix) if prefix == ECDSA => &SHA512,
            _ => return None,
        }
    };
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

/// The hash of an RSASSA-PSS signature; SHA-1, which gives way to SHA-256, where none is named.
fn pss_hash(parameters: &[u8]) -> Option<&'static Algorithm> {
    let (inside, _) = element(parameters, SEQUENCE)?;
    let Some((hash, _)) = element(inside, PSS_HASH) else { return Some(&SHA256) };
    let (algorithm, _) = element(hash, SEQUENCE)?;
    match element(algorithm, OBJECT_IDENTIFIER)?.0 {
        id if id == SHA1 => Some(&SHA256),
        id if !id.starts_with(&SHA2) => None,
        [.., 1] => Some(&SHA256),
        [.., 2] => Some(&SHA384),
        [.., 3] => Some(&SHA512),
        _ => None,
    }
}

/// The object id of a certificate's signature, and its parameters:
/// `SEQUENCE { tbsCertificate, SEQUENCE { OBJECT IDENTIFIER, ANY OPTIONAL } ...` (RFC 5280, section 4.1).
fn signature_algorithm(certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    let (inside, _) = element(certificate, SEQUENCE)?;
    let (_, behind) = element(inside, SEQUENCE)?;
    let (algorithm, _) = element(behind, SEQUENCE)?;
    element(algorithm, OBJECT_IDENTIFIER)
}

/// The contents of the DER element that `bytes` begins with, and what follows it.
fn element(bytes: &[u8], expected: u8) -> Option<(&[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let length = if first < 0x80 {
        usize::from(first)
    } else {
        let digits = rest.get(..usize::from(first & 0x7f)).filter(|digits| (1..=4).contains(&digits.len()))?;
        rest = &rest[digits.len()..];
        digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit))
    };
    (tag == expected && length <= rest.len()).then(|| rest.split_at(length))
}
