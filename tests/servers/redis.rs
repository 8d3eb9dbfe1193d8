//! Redis: what was answered outlives a kill; held, it answers nothing; several run side by side.

use super::assert_gone;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;
use verdict_tests::servers::Redis;

/// One command, as a person would type it, and the first line of the answer.
fn ask(stream: &TcpStream, command: &str) -> std::io::Result<String> {
    let mut line = String::new();
    (&*stream).write_all(format!("{command}\r\n").as_bytes())?;
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

fn connect(redis: &Redis) -> TcpStream {
    TcpStream::connect(redis.address()).unwrap()
}

#[test]
fn what_was_answered_outlives_a_kill() {
    let redis = Redis::start();
    assert_eq!(redis.url(), format!("redis://{}/", redis.address()));
    assert_eq!(ask(&connect(&redis), "SET user blocked").unwrap(), "+OK");
    redis.kill();
    assert!(TcpStream::connect(redis.address()).is_err());
    redis.restart();
    assert_eq!(ask(&connect(&redis), "STRLEN user").unwrap(), ":7");
    let folder = redis.folder().to_owned();
    drop(redis);
    assert_gone(&folder);
}

#[test]
fn a_held_server_answers_when_it_goes_on() {
    let redis = Redis::start();
    let stream = connect(&redis);
    assert_eq!(ask(&stream, "PING").unwrap(), "+PONG");
    redis.pause();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert_eq!(ask(&stream, "PING").unwrap_err().kind(), ErrorKind::WouldBlock);
    stream.set_read_timeout(None).unwrap();
    redis.resume();
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).unwrap();
    assert_eq!(line, "+PONG\r\n");
}

#[test]
fn several_run_side_by_side() {
    let servers: Vec<Redis> = (0..3).map(|_| Redis::start()).collect();
    for (at, server) in servers.iter().enumerate() {
        assert_eq!(ask(&connect(server), &format!("SET own {}", "x".repeat(at + 1))).unwrap(), "+OK");
    }
    for (at, server) in servers.iter().enumerate() {
        assert_eq!(ask(&connect(server), "STRLEN own").unwrap(), format!(":{}", at + 1));
    }
}

#[test]
fn a_held_server_goes_too() {
    let redis = Redis::start();
    let folder = redis.folder().to_owned();
    redis.pause();
    drop(redis);
    assert_gone(&folder);
}
