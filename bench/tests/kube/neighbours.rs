//! Callers who behave badly, between the two listeners of an Envoy, and what others feel of it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use imp_bench::kube::Edge;
use imp_bench::process::eventually;
use imp_bench::stack::PATIENCE;
use tokio_util::sync::CancellationToken;

use super::protocols::{plain, publish, request, secure, whole};

/// They fill no window of others.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Kubernetes stack: make test-kube"]
async fn callers_that_do_not_read_hold_up_nobody_else() -> Result<()> {
    let edge = Edge::start("slow").await?;
    publish(&edge, "none").await?;
    let mut stuck = Vec::new();
    for path in [&["/events/flood"; 20][..], &["/events/deaf"; 20]].concat() {
        let mut caller = plain(edge.address).await?;
        let call = request("http", path);
        if path == "/events/flood" {
            stuck.push(caller.send_request(call.body(())?, true)?.0);
            continue;
        }
        let (answer, mut body) = caller.send_request(call.method("POST").body(())?, false)?;
        stuck.push(answer);
        body.reserve_capacity(1 << 30);
        tokio::spawn(async move {
            while let Some(Ok(room)) = std::future::poll_fn(|cx| body.poll_capacity(cx)).await {
                if body.send_data(vec![0; room].into(), false).is_err() {
                    return;
                }
            }
        });
    }
    let cluster = format!("cluster.imp/inner-{}.upstream_cx_rx_bytes_total", edge.provider.port);
    let (mut before, mut same) = (0, 0);
    eventually("the windows are full", PATIENCE, async || {
        let stats = edge.pod()?.admin()?.stats("rx_bytes_total$").await?;
        let now = stats.get(&cluster).copied().context("no such cluster")?;
        same = if now == before { same + 1 } else { 0 };
        before = now;
        Ok((now > 100_000 && same > 10).then_some(()))
    })
    .await?;
    for (address, scheme) in [(edge.address, "http"), (edge.secure, "https")] {
        let mut caller =
            if scheme == "http" { plain(address).await? } else { secure(address).await? };
        for number in 0..50 {
            caller = caller.ready().await?;
            let call = request(scheme, "/grpc/Echo/Talk").method("POST").header("te", "trailers");
            let call = async {
                let (answer, mut body) = caller.send_request(call.body(())?, false)?;
                body.send_data(vec![0; 30_000].into(), true)?;
                whole(answer.await?.into_body()).await
            };
            let answer = tokio::time::timeout(Duration::from_secs(5), call).await;
            let (echo, _) = answer.with_context(|| format!("{scheme}: call {number} waits"))??;
            assert_eq!(echo.len(), 30_000);
        }
    }
    Ok(())
}

/// Calls one after the other over one connection, and what went wrong.
async fn in_turn(address: SocketAddr, until: CancellationToken) -> Result<(u64, Vec<String>)> {
    let (mut good, mut bad) = (0, Vec::new());
    let mut caller = plain(address).await?;
    while !until.is_cancelled() {
        caller = caller.ready().await?;
        let call = request("http", "/grpc/Echo/Talk").method("POST").header("te", "trailers");
        let (answer, mut body) = caller.send_request(call.body(())?, false)?;
        body.send_data(Bytes::from_static(b"hello"), true)?;
        match answer.await {
            Ok(answer) if answer.status() == 200 => match whole(answer.into_body()).await {
                Ok(_) => good += 1,
                Err(error) => bad.push(error.to_string()),
            },
            Ok(answer) => bad.push(answer.status().to_string()),
            Err(error) => bad.push(error.to_string()),
        }
    }
    Ok((good, bad))
}

/// Begins calls and resets them, as often as Envoy Gateway's listener lets it on one connection.
async fn reset(address: SocketAddr, times: usize) -> Result<()> {
    let mut caller = plain(address).await?;
    for _ in 0..times / 50 {
        let mut begun = Vec::new();
        for _ in 0..50 {
            caller = caller.ready().await?;
            let call = request("http", "/events/deaf").method("POST").body(())?;
            begun.push(caller.send_request(call, false)?);
        }
        // They have arrived when one that was sent later is answered.
        caller = caller.ready().await?;
        let (answer, _) = caller.send_request(request("http", "/who").body(())?, true)?;
        whole(answer.await?.into_body()).await?;
        begun.iter_mut().for_each(|(_, body)| body.send_reset(h2::Reason::CANCEL));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Kubernetes stack: make test-kube"]
async fn callers_that_reset_their_calls_end_nobody_elses() -> Result<()> {
    let edge = Edge::start("resets").await?;
    publish(&edge, "none").await?;
    let mut caller = plain(edge.address).await?;
    let call = request("http", "/grpc/Echo/Talk").method("POST").header("te", "trailers");
    let (answer, mut stream) = caller.send_request(call.body(())?, false)?;
    let mut long = answer.await?.into_body();
    let stop = CancellationToken::new();
    let others = [(); 2].map(|()| tokio::spawn(in_turn(edge.address, stop.clone())));
    for _ in 0..8 {
        // More than Envoy ends a connection for, which is theirs alone.
        let _ended = reset(edge.address, 600).await;
    }
    stream.send_data(Bytes::from_static(b"still"), true)?;
    let part = tokio::time::timeout(PATIENCE, long.data()).await?.context("it has ended")??;
    assert_eq!(&*part, b"still");
    stop.cancel();
    for other in others {
        let (good, bad) = other.await??;
        assert!(good > 20 && bad.is_empty(), "{good} good, {} bad: {:?}", bad.len(), bad.first());
    }
    Ok(())
}
