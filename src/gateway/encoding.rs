//! Content-Encodings of uploaded documents: understood, replayed, and taken off where a client
//! could not read them. Nix writes its own names (`br gzip zstd xz bzip2 none`) on upload.

use std::io;

use async_compression::tokio::bufread::{
    BrotliDecoder, BzDecoder, GzipDecoder, XzDecoder, ZstdDecoder,
};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::io::{ReaderStream, StreamReader};

use crate::body::{BodyError, Piece, Pieces, Reading, memory_pieces};

/// Most bytes a document may have once decoded (`design.md` §10.10).
pub const MAX_DECODED: u64 = 64 << 20;

/// Memory an xz stream may ask for; its header can claim gigabytes.
const XZ_MEMORY: u64 = 64 << 20;

/// Bytes decoded at a time.
const DECODED_CHUNK: usize = 32 << 10;

/// An encoding we can take off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Brotli,
    Gzip,
    Zstd,
    Xz,
    Bzip2,
}

/// A Content-Encoding that is none of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no Content-Encoding that is understood here; zstd, br, gzip, xz, bzip2 and none are")]
pub struct UnknownEncoding;

/// Why a body could not be decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("more than {most} bytes once decoded")]
    TooLarge { most: u64 },
    #[error("damaged data: {0}")]
    Damaged(#[from] std::io::Error),
}

impl Encoding {
    /// From a header's value. `Ok(None)`: the bytes are as they are.
    pub fn parse(value: &str) -> Result<Option<Self>, UnknownEncoding> {
        match value.trim().to_ascii_lowercase().as_str() {
            "" | "identity" | "none" => Ok(None),
            "br" => Ok(Some(Self::Brotli)),
            "gzip" | "x-gzip" => Ok(Some(Self::Gzip)),
            "zstd" => Ok(Some(Self::Zstd)),
            "xz" => Ok(Some(Self::Xz)),
            "bzip2" => Ok(Some(Self::Bzip2)),
            _ => Err(UnknownEncoding),
        }
    }

    /// As a `Content-Encoding` header names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
        }
    }

    /// The decoded body as it comes. One that is damaged, or longer than [`MAX_DECODED`], ends in
    /// an error and thus cuts its answer short.
    pub fn decoding(self, pieces: Pieces) -> Pieces {
        let packed = StreamReader::new(Reading::new(pieces).map_err(io::Error::other));
        match self {
            Self::Brotli => bounded(BrotliDecoder::new(packed)),
            Self::Gzip => bounded(GzipDecoder::new(packed)),
            Self::Zstd => bounded(ZstdDecoder::new(packed)),
            Self::Xz => bounded(XzDecoder::with_mem_limit(packed, XZ_MEMORY)),
            Self::Bzip2 => bounded(BzDecoder::new(packed)),
        }
    }

    /// How many bytes `packed` decodes to, of which few are held at once. Others have their turn
    /// meanwhile. Errors: those in which [`Encoding::decoding`] would end.
    pub async fn decoded_len(self, packed: Bytes) -> Result<u64, BodyError> {
        let mut pieces = self.decoding(memory_pieces(packed));
        let mut len = 0;
        while let Some(piece) = pieces.try_next().await? {
            len += piece.len();
            tokio::task::yield_now().await;
        }
        Ok(len)
    }

    /// The decoded bytes, at most so many: no more than that are ever held.
    pub async fn decode(self, bytes: &[u8], most: u64) -> Result<Bytes, DecodeError> {
        match self {
            Self::Brotli => read_bounded(BrotliDecoder::new(bytes), most).await,
            Self::Gzip => read_bounded(GzipDecoder::new(bytes), most).await,
            Self::Zstd => read_bounded(ZstdDecoder::new(bytes), most).await,
            Self::Xz => read_bounded(XzDecoder::with_mem_limit(bytes, XZ_MEMORY), most).await,
            Self::Bzip2 => read_bounded(BzDecoder::new(bytes), most).await,
        }
    }
}

fn bounded(decoder: impl AsyncRead + Send + 'static) -> Pieces {
    let mut left = MAX_DECODED;
    let plain = ReaderStream::with_capacity(decoder, DECODED_CHUNK);
    Box::pin(plain.map(move |chunk| {
        let damaged = |cause| BodyError::Source(DecodeError::Damaged(cause).to_string());
        let chunk = chunk.map_err(damaged)?;
        left = left.checked_sub(chunk.len() as u64).ok_or_else(|| {
            let most = MAX_DECODED;
            BodyError::Source(DecodeError::TooLarge { most }.to_string())
        })?;
        Ok(Piece::Bytes(chunk))
    }))
}

async fn read_bounded(decoder: impl AsyncRead + Unpin, most: u64) -> Result<Bytes, DecodeError> {
    let mut decoded = Vec::new();
    decoder.take(most + 1).read_to_end(&mut decoded).await?;
    if decoded.len() as u64 > most {
        return Err(DecodeError::TooLarge { most });
    }
    Ok(decoded.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_compression::tokio::bufread::{
        BrotliEncoder, BzEncoder, GzipEncoder, XzEncoder, ZstdEncoder,
    };

    async fn packed(mut encoder: impl AsyncRead + Unpin) -> Vec<u8> {
        let mut bytes = Vec::new();
        encoder.read_to_end(&mut bytes).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn every_encoding_that_nix_writes_is_read() {
        let text: &[u8] = b"StorePath: /nix/store/x\n";
        for (name, bytes) in [
            ("br", packed(BrotliEncoder::new(text)).await),
            ("gzip", packed(GzipEncoder::new(text)).await),
            ("zstd", packed(ZstdEncoder::new(text)).await),
            ("xz", packed(XzEncoder::new(text)).await),
            ("bzip2", packed(BzEncoder::new(text)).await),
        ] {
            let encoding = Encoding::parse(name).unwrap().unwrap();
            assert_eq!(encoding.as_str(), name);
            assert_eq!(encoding.decode(&bytes, 100).await.unwrap(), text, "{name}");
            assert!(
                encoding
                    .decode(&bytes[..bytes.len() / 2], 100)
                    .await
                    .is_err(),
                "{name} cut in half"
            );
        }
    }

    #[test]
    fn no_encoding_has_several_names_and_others_are_refused() {
        for name in ["", "none", "identity", "IDENTITY"] {
            assert_eq!(Encoding::parse(name), Ok(None));
        }
        for name in ["deflate", "lzma", "gzip, br", "compress"] {
            assert_eq!(Encoding::parse(name), Err(UnknownEncoding), "{name}");
        }
    }

    #[tokio::test]
    async fn a_bomb_is_stopped_at_the_limit() {
        let most = 1 << 20;
        let zeros = vec![0; most as usize + 1];
        let bomb = packed(ZstdEncoder::new(zeros.as_slice())).await;
        assert!(bomb.len() < 10_000);
        let decoded = Encoding::Zstd.decode(&bomb, most).await;
        assert!(matches!(decoded, Err(DecodeError::TooLarge { .. })));
        let decoded = Encoding::Zstd.decode(&bomb, most + 1).await;
        assert_eq!(decoded.unwrap(), zeros);
    }
}
