//! Compressed bodies, in both directions: gzip and deflate, which is zlib's format.

use std::io::{Read, Write};

use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use flate2::Compression;
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};

use super::error::ApiError;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    /// As HTTP means it: with zlib's header and checksum, not the bare stream.
    Deflate,
}

/// Why a body could not be unpacked.
#[derive(Debug)]
pub(super) enum Unpack {
    /// Unpacked it has more bytes than are allowed; it was not unpacked further.
    TooLarge,
    /// It is damaged, or something else.
    Damaged(std::io::Error),
}

impl Coding {
    /// How the sender of these headers compressed its body.
    ///
    /// # Errors
    /// 415 for what is neither of them, or both.
    pub(super) fn of_body(headers: &HeaderMap) -> Result<Option<Self>, ApiError> {
        let mut found = None;
        for value in headers.get_all(CONTENT_ENCODING) {
            for name in value.to_str().unwrap_or("?").split(',').map(str::trim) {
                if name.is_empty() || name.eq_ignore_ascii_case("identity") {
                    continue;
                }
                let coding = Self::of_name(name).filter(|_| found.is_none());
                found = Some(coding.ok_or_else(|| unknown(value))?);
            }
        }
        Ok(found)
    }

    /// How the sender of these headers would like its answer: gzip before deflate, if it takes both
    /// as gladly.
    pub(super) fn accepted(headers: &HeaderMap) -> Option<Self> {
        let mut best: Option<(f32, Self)> = None;
        for value in headers.get_all(ACCEPT_ENCODING) {
            for item in value.to_str().unwrap_or_default().split(',') {
                let (name, weight) = weighted(item);
                let Some(coding) = Self::of_name(name) else { continue };
                let better = best.is_none_or(|(least, other)| {
                    weight > least || (weight == least && other == Self::Deflate)
                });
                if weight > 0.0 && better {
                    best = Some((weight, coding));
                }
            }
        }
        best.map(|(_, coding)| coding)
    }

    /// The value of `Content-Encoding`.
    pub(super) fn name(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        })
    }

    fn of_name(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
            return Some(Self::Gzip);
        }
        name.eq_ignore_ascii_case("deflate").then_some(Self::Deflate)
    }

    /// Unpacks `packed`, but never to more than `bytes_max` bytes.
    pub(super) fn unpack(self, packed: &[u8], bytes_max: usize) -> Result<Vec<u8>, Unpack> {
        let mut unpacked = Vec::with_capacity(packed.len().saturating_mul(2).min(bytes_max));
        // One byte more shows that there is more.
        let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
        let read = match self {
            Self::Gzip => MultiGzDecoder::new(packed).take(limit).read_to_end(&mut unpacked),
            Self::Deflate => ZlibDecoder::new(packed).take(limit).read_to_end(&mut unpacked),
        };
        read.map_err(Unpack::Damaged)?;
        if unpacked.len() > bytes_max {
            return Err(Unpack::TooLarge);
        }
        Ok(unpacked)
    }

    /// Packs `plain`, quickly rather than well.
    pub(super) fn pack(self, plain: &[u8]) -> std::io::Result<Vec<u8>> {
        let packed = Vec::with_capacity(plain.len() / 2);
        match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(packed, Compression::fast());
                encoder.write_all(plain)?;
                encoder.finish()
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(packed, Compression::fast());
                encoder.write_all(plain)?;
                encoder.finish()
            }
        }
    }
}

/// `gzip;q=0.5` as its name and weight.
fn weighted(item: &str) -> (&str, f32) {
    let (name, rest) = item.split_once(';').unwrap_or((item, ""));
    let weight = rest.trim().strip_prefix("q=").map_or(Ok(1.0), |q| q.trim().parse());
    (name.trim(), weight.unwrap_or(0.0))
}

fn unknown(value: &HeaderValue) -> ApiError {
    let text = format!(
        "bodies encoded as {value:?} are not supported; send it as it is, or as gzip or deflate"
    );
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(text: &str) -> Option<Coding> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_str(text).unwrap());
        Coding::accepted(&headers)
    }

    #[test]
    fn what_the_client_likes_best_is_taken() {
        assert_eq!(accepted("gzip, deflate, br"), Some(Coding::Gzip));
        assert_eq!(accepted("deflate, gzip"), Some(Coding::Gzip));
        assert_eq!(accepted("gzip;q=0.2, deflate;q=0.9"), Some(Coding::Deflate));
        assert_eq!(accepted("gzip;q=0, br"), None);
        assert_eq!(accepted("identity"), None);
        assert_eq!(accepted("GZIP"), Some(Coding::Gzip));
    }

    #[test]
    fn what_is_packed_is_unpacked_up_to_the_limit() {
        let plain = vec![7_u8; 100_000];
        for coding in [Coding::Gzip, Coding::Deflate] {
            let packed = coding.pack(&plain).unwrap();
            assert!(packed.len() < 2_000);
            assert_eq!(coding.unpack(&packed, plain.len()).unwrap(), plain);
            let short = coding.unpack(&packed, plain.len() - 1);
            assert!(matches!(short, Err(Unpack::TooLarge)));
            let torn = coding.unpack(&packed[..packed.len() / 2], plain.len());
            assert!(matches!(torn, Err(Unpack::Damaged(_))));
            assert!(matches!(coding.unpack(b"{}", 10), Err(Unpack::Damaged(_))));
        }
        // zlib's header, as HTTP means deflate.
        assert_eq!(Coding::Deflate.pack(b"x").unwrap()[0], 0x78);
    }
}
