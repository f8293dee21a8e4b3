//! The answer to a client that speaks HTTP where TLS is expected.

use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long the client has to take the answer and to close.
const PATIENCE: Duration = Duration::from_secs(1);

/// So much of what the client still sends is read, so that the answer is not lost in a reset.
const MOST: usize = 64 << 10;

const ANSWER: &str = concat!(
    "HTTP/1.1 400 Bad Request\r\n",
    "Content-Type: text/plain; charset=utf-8\r\n",
    "Content-Length: 67\r\n",
    "Connection: close\r\n",
    "\r\n",
    "this port speaks TLS: send the request with https instead of http.\n",
);

/// Answers 400 where `read` begins like an HTTP request, and closes the connection. Anything else gets no answer.
pub async fn refuse_plain(mut stream: TcpStream, read: &[u8]) {
    if !read.first().is_some_and(u8::is_ascii_alphabetic) {
        return;
    }
    // A client that does not read the answer is closed without it.
    let _ = timeout(PATIENCE, async {
        stream.write_all(ANSWER.as_bytes()).await?;
        stream.shutdown().await?;
        let (mut buffer, mut left) = ([0; 2048], MOST);
        while left > 0 {
            stream.readable().await?;
            match stream.try_read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => left = left.saturating_sub(length),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok::<(), io::Error>(())
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_has_the_length_that_it_says() {
        let (head, body) = ANSWER.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
    }
}
