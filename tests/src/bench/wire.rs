//! An HTTP/1.1 client on one kept connection, as lean as load generators are: beside the service on the same
//! processors, a full client would be what is measured.

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One kept connection to a service.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    host: String,
    key: String,
    out: Vec<u8>,
    answer: Vec<u8>,
}

impl Wire {
    /// Connects to `http://host:port`; calls carry the key as a bearer token.
    pub async fn connect(base: &str, key: &str) -> anyhow::Result<Self> {
        let host = base
            .strip_prefix("http://")
            .context("an http:// address")?
            .to_owned();
        let stream = TcpStream::connect(&host).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            host,
            key: key.to_owned(),
            out: Vec::new(),
            answer: Vec::new(),
        })
    }

    /// Sends a JSON body and waits for the whole answer, which must have this status.
    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        body: &[u8],
        status: u16,
    ) -> anyhow::Result<&[u8]> {
        self.out.clear();
        let (host, key, length) = (&self.host, &self.key, body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        self.out.extend_from_slice(head.as_bytes());
        self.out.extend_from_slice(body);
        self.stream.write_all(&self.out).await?;
        self.answer.clear();
        let body = loop {
            let read = self.stream.read_buf(&mut self.answer).await?;
            ensure!(read > 0, "{host} closed the connection");
            if let Some((start, length)) = body_of(&self.answer)?
                && self.answer.len() >= start + length
            {
                break start..start + length;
            }
        };
        let text = String::from_utf8_lossy(&self.answer[body.clone()]);
        let found = self.answer.get(9..12).unwrap_or_default();
        if found != status.to_string().as_bytes() {
            bail!("{method} {path}: {} {text}", String::from_utf8_lossy(found));
        }
        Ok(&self.answer[body])
    }
}

/// Where the body begins and how long it is, once the head is complete.
fn body_of(answer: &[u8]) -> anyhow::Result<Option<(usize, usize)>> {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&answer[..end]).context("the head of an answer is not text")?;
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = match length {
        Some((_, length)) => length.trim().parse()?,
        None if head.starts_with("HTTP/1.1 204") => 0,
        None => bail!("an answer without content-length: {head}"),
    };
    Ok(Some((end + 4, length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_found_once_the_head_is_complete() -> anyhow::Result<()> {
        let answer = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(body_of(answer)?, Some((answer.len() - 2, 2)));
        assert_eq!(body_of(&answer[..30])?, None);
        assert!(body_of(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert_eq!(body_of(b"HTTP/1.1 204 No Content\r\n\r\n")?, Some((27, 0)));
        Ok(())
    }
}
