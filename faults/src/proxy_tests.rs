use std::time::Duration;

use super::*;

/// A server that sends back what it gets, and a proxy before it.
async fn echo() -> Result<Proxy> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    Proxy::before(&address).await
}

async fn said_back(stream: &mut TcpStream, text: &[u8]) -> Result<()> {
    stream.write_all(text).await?;
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).await?;
    assert_eq!(answer, text);
    Ok(())
}

#[test]
fn the_server_of_a_url_is_found_past_its_password() {
    assert_eq!(host_and_port("postgres://me:p@ss@db:5432/truth?x=1"), Some("db:5432"));
    assert_eq!(host_and_port("http://127.0.0.1:80"), Some("127.0.0.1:80"));
    assert_eq!(host_and_port("postgres://db/truth"), None);
}

#[tokio::test]
async fn a_cut_resets_what_is_open_and_lets_new_ones_pass() -> Result<()> {
    let proxy = echo().await?;
    let mut stream = TcpStream::connect(proxy.address()).await?;
    said_back(&mut stream, b"one").await?;
    assert_eq!(proxy.cut(), 1);
    let error = stream.read(&mut [0]).await.expect_err("reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    said_back(&mut TcpStream::connect(proxy.address()).await?, b"two").await?;
    assert_eq!(proxy.resets(), 1);
    Ok(())
}

#[tokio::test]
async fn a_freeze_holds_everything_back_and_closes_nothing() -> Result<()> {
    let proxy = echo().await?;
    let mut stream = TcpStream::connect(proxy.address()).await?;
    said_back(&mut stream, b"one").await?;
    proxy.freeze();
    stream.write_all(b"held").await?;
    let mut answer = [0; 4];
    let silence = tokio::time::timeout(Duration::from_millis(200), stream.read_exact(&mut answer)).await;
    assert!(silence.is_err(), "{silence:?}");
    assert_eq!(proxy.held_back(), 4);
    proxy.heal();
    stream.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"held");
    Ok(())
}

#[tokio::test]
async fn a_refusing_proxy_lets_nobody_in_until_it_is_healed() -> Result<()> {
    let proxy = echo().await?;
    let mut stream = TcpStream::connect(proxy.address()).await?;
    said_back(&mut stream, b"one").await?;
    assert_eq!(proxy.refuse(), 1);
    assert!(stream.read(&mut [0]).await.is_err());
    let refused = async {
        let mut stream = TcpStream::connect(proxy.address()).await?;
        said_back(&mut stream, b"two").await
    };
    assert!(refused.await.is_err());
    proxy.heal();
    said_back(&mut TcpStream::connect(proxy.address()).await?, b"three").await
}

#[tokio::test]
async fn a_connection_is_cut_in_the_middle_of_what_it_brings_once() -> Result<()> {
    let proxy = echo().await?;
    proxy.cut_after(5);
    let mut stream = TcpStream::connect(proxy.address()).await?;
    said_back(&mut stream, b"seven").await?;
    stream.write_all(b"more").await?;
    let error = stream.read(&mut [0]).await.expect_err("reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    said_back(&mut TcpStream::connect(proxy.address()).await?, b"once").await?;
    assert_eq!((proxy.resets(), proxy.bytes_there()), (1, 13));
    Ok(())
}

#[tokio::test]
async fn an_answer_is_lost_once_and_what_was_said_came() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let proxy = Proxy::before(&listener.local_addr()?.to_string()).await?;
    proxy.lose_answer_after(3);
    for (is_lost, text) in [(false, b"one"), (true, b"two"), (false, b"six")] {
        let mut stream = TcpStream::connect(proxy.address()).await?;
        let (mut server, _) = listener.accept().await?;
        stream.write_all(text).await?;
        let mut said = [0; 3];
        server.read_exact(&mut said).await?;
        assert_eq!(&said, text);
        server.write_all(b"answer").await?;
        let heard = stream.read_exact(&mut [0; 6]).await;
        assert_eq!(heard.is_err(), is_lost, "{text:?}: {heard:?}");
    }
    assert_eq!(proxy.resets(), 1);
    Ok(())
}
