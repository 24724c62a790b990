//! Reads a pipe to its end while keeping only a bounded part of it.

use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes kept from the start, and as many from the end.
const KEEP: usize = 32 * 1024;

/// Reads `pipe` to its end and returns its first and last [`KEEP`] bytes.
pub(super) async fn capture(mut pipe: impl AsyncRead + Unpin) -> String {
    let mut head = Vec::new();
    let mut tail = Vec::new();
    let mut lost = false;
    let mut buffer = vec![0; 8 * 1024];
    // A read error of a pipe is its end: what was read so far is what there is.
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        let (first, rest) = buffer[..count].split_at(count.min(KEEP - head.len()));
        head.extend_from_slice(first);
        tail.extend_from_slice(rest);
        if tail.len() > 2 * KEEP {
            tail.drain(..tail.len() - KEEP);
            lost = true;
        }
    }
    if tail.len() > KEEP {
        tail.drain(..tail.len() - KEEP);
        lost = true;
    }
    let gap = if lost { "\n[...]\n" } else { "" };
    format!(
        "{}{gap}{}",
        String::from_utf8_lossy(&head),
        String::from_utf8_lossy(&tail)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keeps_both_ends_of_a_flood() {
        let mut flood = b"START".to_vec();
        flood.extend(vec![b'x'; 1 << 20]);
        flood.extend(b"END");
        let kept = capture(flood.as_slice()).await;
        assert!(kept.len() < 2 * KEEP + 10);
        assert!(kept.starts_with("START") && kept.contains("[...]") && kept.ends_with("END"));
    }

    #[tokio::test]
    async fn keeps_little_output_whole() {
        assert_eq!(capture(b"hello".as_slice()).await, "hello");
        let exact = vec![b'y'; 2 * KEEP];
        assert_eq!(capture(exact.as_slice()).await.len(), 2 * KEEP);
    }
}
