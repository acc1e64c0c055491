//! Requests to the side port, written by hand.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use super::Countersign;

/// The body of a GET response.
pub fn get(server: &Countersign, path: &str) -> String {
    let address = server.http_url().trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).expect("the side port listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the answer ends");
    let (_head, body) = answer.split_once("\r\n\r\n").expect("a head");
    body.to_owned()
}

/// The sum of a metric over its labels.
pub fn metric(server: &Countersign, name: &str) -> f64 {
    let is = |line: &&str| line.starts_with(name) && matches!(line.as_bytes().get(name.len()), Some(b' ' | b'{'));
    get(server, "/metrics")
        .lines()
        .filter(is)
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}
