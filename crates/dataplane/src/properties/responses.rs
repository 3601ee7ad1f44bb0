//! Response heads: what a server says reaches the client with the same meaning, and cannot end in two places.

use std::sync::OnceLock;

use super::grammar::{Framing as Read, Head};
use super::requests::parsed;
use crate::servers::http::request::Request;
use crate::servers::http::response::{Emission, Framing, Response, rewrite};

/// One for each way in which a response depends on its request.
fn requests() -> &'static [Request] {
    static REQUESTS: OnceLock<Vec<Request>> = OnceLock::new();
    REQUESTS.get_or_init(|| {
        let heads = [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip, br\r\nIf-None-Match: W/\"x\"\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        ];
        heads.iter().map(|head| parsed(head).expect("a good request")).collect()
    })
}

pub fn hold(data: &[u8]) {
    for request in requests() {
        let mut out = Vec::new();
        let Ok(Some(response)) = rewrite(data, request, true, &mut out) else { continue };
        let end = response.head_length;
        assert!(end <= data.len());
        for cut in [1, end / 3, end / 2, end.saturating_sub(3), end.saturating_sub(1)] {
            let early = rewrite(&data[..cut.min(end - 1)], request, true, &mut Vec::new());
            assert!(matches!(early, Ok(None)), "decided before all of the head was there: {early:?}");
        }
        let mut longer = Vec::new();
        let surplus = [data, b"\r\nHTTP/1.1 500 x\r\n\r\n"].concat();
        assert!(matches!(rewrite(&surplus, request, true, &mut longer), Ok(Some(_))));
        assert_eq!(longer, out, "what follows the head changes it");

        let blank = data.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let read = Head::read(&data[blank..end]).unwrap_or_else(|why| panic!("accepted, though there is {why}"));
        let status = read.check_status_line().unwrap_or_else(|why| panic!("accepted in spite of {why}"));
        assert_eq!(response.status, status);
        check_framing(&response, &read, request);
        if status == 100 {
            assert!(out.is_empty());
        } else {
            check_written(&response, &read, request, &out);
        }
    }
}

fn check_framing(response: &Response, read: &Head, request: &Request) {
    let framing = read.framing().unwrap_or_else(|why| panic!("accepted in spite of {why}"));
    let bodiless = request.is_head || matches!(response.status, 100..200 | 204 | 304);
    let expected = match framing {
        _ if bodiless => Framing::Empty,
        Read::None => Framing::UntilClose,
        Read::Length(length) => Framing::Length(length),
        Read::Chunked => Framing::Chunked,
    };
    assert_eq!(response.framing, expected);
    assert!(!(response.server_keeps && expected == Framing::UntilClose));
}

fn check_written(response: &Response, read: &Head, request: &Request, out: &[u8]) {
    let written = Head::read(out).unwrap_or_else(|why| panic!("the client would get {why}"));
    assert_eq!(written.check_status_line(), Ok(response.status));
    let framing = written.framing().unwrap_or_else(|why| panic!("the client would get {why}"));
    assert!(written.all("content-length").len() < 2, "the client would get two lengths");
    let lasting = response.status >= 200 && response.status != 204;
    match (response.emission, response.framing) {
        _ if !lasting => assert_eq!(framing, Read::None),
        (Emission::Enchunk | Emission::Compress(_), _) => assert_eq!(framing, Read::Chunked),
        (Emission::Dechunk, _) => {
            assert_eq!(framing, Read::None);
            assert!(!response.client_keeps);
        }
        (Emission::Verbatim, Framing::Length(length)) => assert_eq!(framing, Read::Length(length)),
        (Emission::Verbatim, Framing::Chunked) => assert_eq!(framing, Read::Chunked),
        (Emission::Verbatim, Framing::UntilClose) => assert!(!response.client_keeps && framing == Read::None),
        // To HEAD and with 304 the fields tell of a body that does not come.
        (Emission::Verbatim, Framing::Empty) => {}
    }
    assert!(request.is_http11 || framing != Read::Chunked, "chunks for HTTP/1.0");
    for field in &written.fields {
        let is_ours = matches!(&field.0[..], "connection" | "transfer-encoding" | "vary" | "etag" | "upgrade");
        let tells_coding = field.0 == "content-encoding" && matches!(response.emission, Emission::Compress(_));
        assert!(is_ours || tells_coding || read.fields.contains(field), "{field:?} was added");
    }
}
