//! Hosts as the module inside Envoy finds them: every spelling, and wildcards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};
use imp_bench::edge::{Answer, Connection};
use imp_bench::process::eventually;
use imp_bench::rest::text;
use imp_bench::sample::{Echo, Provider};
use imp_bench::stack::{Options, PATIENCE, Stack};
use serde_json::json;

use crate::alone::side_by_side;

const HOST: &str = "a.example.com";

/// The answer to a call with this request line and host, as they are.
async fn ask(provider: &Provider, line: &str, host: &str, headers: &str) -> Result<Answer> {
    let mut open = Connection::open(provider.address()).await?;
    let request = format!("GET {line} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n");
    open.send_raw(request.as_bytes()).await
}

fn told(answer: &Answer) -> (u16, String) {
    let code = answer.json()["code"].as_str().unwrap_or_default().to_owned();
    (answer.status, code)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_spelling_of_a_host_is_that_host() -> Result<()> {
    let _turn = side_by_side().await;
    let stack = Stack::start(Options::default()).await?;
    let provider = Provider::create(&stack, "acme").await?;
    let product = provider.echo(&stack, "echo").await?.product_id;
    let closed = provider.publish(&product, "closed.example.com", "api_key").await?;
    let open = provider.publish(&product, HOST, "none").await?;
    for publish in [closed, open] {
        stack.publish_reaches(&publish, "active", PATIENCE).await?;
    }
    // At once: what is active can be called.
    for host in [HOST, "A.Example.COM", "a.example.com.", "a.example.com:8443", "A.EXAMPLE.com.:1"]
    {
        let answer = ask(&provider, "/pay", host, "").await?;
        assert_eq!(answer.status, 200, "{host}: {answer:?}");
        // The upstream gets it without the final dot, and otherwise as it was sent.
        let sent = host.replace(".:", ":");
        let sent = sent.strip_suffix('.').unwrap_or(&sent);
        assert_eq!(answer.json()["headers"]["host"], *sent, "{answer:?}");
    }
    let absolute = ask(&provider, "http://A.Example.com:80/pay", "b.example.com", "").await?;
    assert_eq!(absolute.status, 200, "{absolute:?}");
    for host in ["closed.example.com", "Closed.Example.com", "closed.example.com.:80"] {
        assert_eq!(ask(&provider, "/pay", host, "").await?.status, 401, "{host}");
    }
    for (host, expected) in [
        ("b.example.com", (404, "no_route")),
        ("example.com", (404, "no_route")),
        ("[::1]", (404, "no_route")),
        ("a..example.com", (400, "bad_host")),
        ("a.example.com..", (400, "bad_host")),
        ("a.example.com..:80", (400, "bad_host")),
        ("*.example.com", (400, "bad_host")),
        ("a.example.com:port", (400, "bad_host")),
        ("!404", (400, "bad_host")),
        ("#", (400, "bad_host")),
        ("-", (404, "no_route")),
    ] {
        let (status, code) = told(&ask(&provider, "/pay", host, "").await?);
        assert_eq!((status, code.as_str()), expected, "{host}");
    }
    // No caller names its scope.
    for name in ["x-imp-host", "X-Imp-Host", "x_imp_host", "x-imp-port", "X-IMP-PORT"] {
        let forged = format!("{name}: {HOST}\r\n{name}: {}\r\n", provider.port);
        let answer = ask(&provider, "/pay", "b.example.com", &forged).await?;
        assert_eq!(told(&answer), (404, "no_route".to_owned()), "{name}");
        let answer = ask(&provider, "/pay", HOST, &forged).await?;
        assert_eq!(answer.status, 200, "{name}");
    }
    // What is refused for something else still is.
    let many: String = (0..120).map(|number| format!("x-{number}: 1\r\n")).collect();
    let answer = ask(&provider, "/pay", "A.example.com", &many).await?;
    assert_eq!(told(&answer), (431, "too_many_headers".to_owned()));
    let grpc = ask(&provider, "/pay", "a..b", "content-type: application/grpc\r\n").await?;
    assert_eq!((grpc.status, grpc.header("grpc-status")), (200, Some("13")), "{grpc:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_cannot_load_the_module_is_served_without_it() -> Result<()> {
    let _turn = side_by_side().await;
    let mut stack = Stack::start(Options { envoy: false, ..Options::default() }).await?;
    let provider = Provider::create(&stack, "acme").await?;
    let product = provider.echo(&stack, "echo").await?.product_id;
    let publish = provider.publish(&product, HOST, "none").await?;
    let mut removed = 0;
    for file in walk(stack.directory())? {
        if file.extension().is_some_and(|it| it == "so") {
            std::fs::write(&file, b"no library")?;
            removed += 1;
        }
    }
    ensure!(removed == 1, "{removed} libraries");
    stack.add_envoy().await?;
    stack.publish_reaches(&publish, "active", PATIENCE).await?;
    stack.answers(provider.address(), HOST, "/pay", &[], 200).await?;
    let capital = ask(&provider, "/pay", "A.example.com", "").await?;
    assert_eq!(told(&capital), (421, "host_spelling".to_owned()));
    assert!(stack.agent.metric("imp_door_calls_total").await? > 0.0, "the agent decides");
    Ok(())
}

/// Has an operator grant a domain.
async fn grant(stack: &Stack, provider: &Provider, name: &str) -> Result<()> {
    let domain = json!({ "tenant_id": provider.tenant_id, "name": name });
    let id = text(&stack.admin.post("/v1/domains", &domain).await?, "id")?;
    stack.admin.act(&format!("/v1/domains/{id}/grant")).await?;
    Ok(())
}

/// Publishes a product that says its label, and waits until it can be called.
async fn serve(stack: &Stack, provider: &Provider, label: &str, host: &str) -> Result<String> {
    let Echo { product_id, .. } = provider.echo(stack, label).await?;
    let id = provider.publish(&product_id, host, "none").await?;
    stack.publish_reaches(&id, "active", PATIENCE).await?;
    Ok(id)
}

/// Who answers: a label, or the status.
async fn who(provider: &Provider, host: &str) -> Result<String> {
    let answer = ask(provider, "/pay", host, "").await?;
    let label = answer.header("x-edition").map(str::to_owned);
    Ok(label.unwrap_or_else(|| answer.status.to_string()))
}

async fn becomes(provider: &Provider, host: &str, expected: &str) -> Result<()> {
    // An Envoy that has just started does not listen yet.
    let answers = async || who(provider, host).await.is_ok_and(|it| it == expected);
    let looked = async || Ok(answers().await.then_some(()));
    eventually(host, PATIENCE, looked).await.with_context(|| format!("{host}: {expected}"))
}

async fn withdraw(provider: &Provider, id: &str) -> Result<()> {
    provider.rest.delete(&format!("/v1/product-publishes/{id}")).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_takes_what_is_below_it_and_an_exact_host_comes_first() -> Result<()> {
    let _turn = side_by_side().await;
    let stack = Stack::start(Options::default()).await?;
    let provider = Provider::create(&stack, "acme").await?;
    for name in ["wild.example.com", "*"] {
        grant(&stack, &provider, name).await?;
    }
    let wild = serve(&stack, &provider, "wild", "*.wild.example.com").await?;
    for host in ["a.wild.example.com", "A.Wild.Example.com:8080", "a.b.wild.example.com."] {
        assert_eq!(who(&provider, host).await?, "wild", "{host}");
    }
    for host in ["wild.example.com", "xwild.example.com", "other.org", "127.0.0.1"] {
        assert_eq!(who(&provider, host).await?, "404", "{host}");
    }
    let exact = serve(&stack, &provider, "exact", "a.wild.example.com").await?;
    serve(&stack, &provider, "deep", "*.deep.wild.example.com").await?;
    let all = serve(&stack, &provider, "all", "*").await?;
    for (host, expected) in [
        ("A.wild.example.com.", "exact"),
        ("b.wild.example.com", "wild"),
        ("x.a.wild.example.com", "wild"),
        ("x.deep.wild.example.com", "deep"),
        ("deep.wild.example.com", "wild"),
        ("wild.example.com", "all"),
        ("127.0.0.1:80", "all"),
        ("[::1]", "all"),
        ("a..wild.example.com", "400"),
    ] {
        assert_eq!(who(&provider, host).await?, expected, "{host}");
    }
    // The agent restarts, and Envoy goes on; then Envoy restarts.
    let mut stack = stack;
    stack.restart_agent().await?;
    assert_eq!(who(&provider, "b.wild.example.com").await?, "wild");
    stack.envoys.clear();
    stack.add_envoy().await?;
    becomes(&provider, "b.wild.example.com", "wild").await?;
    assert_eq!(who(&provider, "A.wild.example.com").await?, "exact");
    // Each goes, and the next wider one takes over.
    withdraw(&provider, &exact).await?;
    becomes(&provider, "a.wild.example.com", "wild").await?;
    withdraw(&provider, &wild).await?;
    becomes(&provider, "a.wild.example.com", "all").await?;
    assert_eq!(who(&provider, "x.deep.wild.example.com").await?, "deep");
    withdraw(&provider, &all).await?;
    becomes(&provider, "a.wild.example.com", "404").await?;
    Ok(())
}

/// A host becomes known to the module when Envoy has its scope, and is forgotten before Envoy loses it:
/// under a wildcard no call is answered 404, however often an exact host comes and goes.
#[tokio::test(flavor = "multi_thread")]
async fn no_call_is_lost_while_an_exact_host_comes_and_goes_under_a_wildcard() -> Result<()> {
    let _turn = side_by_side().await;
    let stack = Stack::start(Options::default()).await?;
    let provider = Arc::new(Provider::create(&stack, "acme").await?);
    grant(&stack, &provider, "wild.example.com").await?;
    serve(&stack, &provider, "wild", "*.wild.example.com").await?;
    let Echo { product_id, .. } = provider.echo(&stack, "exact").await?;
    let done = Arc::new(AtomicBool::new(false));
    let (caller, stop) = (provider.clone(), done.clone());
    let calls = tokio::spawn(async move {
        let (mut open, mut seen) = (Connection::open(caller.address()).await?, [0_u32; 2]);
        while !stop.load(Ordering::Relaxed) {
            let answer = open.get("a.wild.example.com", "/pay", &[]).await?;
            match answer.header("x-edition") {
                Some("wild") => seen[0] += 1,
                Some("exact") => seen[1] += 1,
                _ => anyhow::bail!("{answer:?} after {seen:?}"),
            }
            if open.is_closing() {
                open = Connection::open(caller.address()).await?;
            }
        }
        Ok(seen)
    });
    for _ in 0..8 {
        let id = provider.publish(&product_id, "a.wild.example.com", "none").await?;
        stack.publish_reaches(&id, "active", PATIENCE).await?;
        assert_eq!(who(&provider, "a.wild.example.com").await?, "exact");
        withdraw(&provider, &id).await?;
        becomes(&provider, "a.wild.example.com", "wild").await?;
    }
    done.store(true, Ordering::Relaxed);
    let [wild, exact] = calls.await??;
    ensure!(wild > 8 && exact > 8, "{wild} and {exact} calls prove little");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_takes_nothing_that_another_tenant_holds() -> Result<()> {
    let _turn = side_by_side().await;
    let stack = Stack::start(Options::default()).await?;
    let acme = Provider::create(&stack, "acme").await?;
    let other = Provider::create_at(&stack, "other", acme.port).await?;
    for name in ["wild.example.com", "*"] {
        grant(&stack, &acme, name).await?;
    }
    serve(&stack, &acme, "wild", "*.wild.example.com").await?;
    serve(&stack, &acme, "all", "*").await?;
    assert_eq!(who(&acme, "x.team.wild.example.com").await?, "wild");
    // The other one proves a part, and serves nothing there.
    grant(&stack, &other, "team.wild.example.com").await?;
    for host in ["x.team.wild.example.com", "team.wild.example.com", "y.x.team.wild.example.com"] {
        becomes(&acme, host, "404").await?;
    }
    assert_eq!(who(&acme, "b.wild.example.com").await?, "wild");
    // Then it does, exactly and below.
    let exact = serve(&stack, &other, "theirs", "x.team.wild.example.com").await?;
    assert_eq!(who(&acme, "X.team.wild.example.com").await?, "theirs");
    assert_eq!(who(&acme, "y.team.wild.example.com").await?, "404");
    let below = serve(&stack, &other, "below", "*.team.wild.example.com").await?;
    assert_eq!(who(&acme, "y.team.wild.example.com").await?, "below");
    assert_eq!(who(&acme, "x.team.wild.example.com").await?, "theirs");
    // It withdraws everything, and is still nobody else's.
    for id in [exact, below] {
        withdraw(&other, &id).await?;
    }
    for host in ["x.team.wild.example.com", "y.team.wild.example.com"] {
        becomes(&acme, host, "404").await?;
    }
    assert_eq!(who(&acme, "b.wild.example.com").await?, "wild");
    Ok(())
}

/// An agent whose Envoys ask it about calls finds no wildcards, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_module_a_wildcard_is_refused() -> Result<()> {
    let _turn = side_by_side().await;
    let stack = Stack::start(Options::asking()).await?;
    let provider = Provider::create(&stack, "acme").await?;
    grant(&stack, &provider, "wild.example.com").await?;
    let Echo { product_id, .. } = provider.echo(&stack, "wild").await?;
    let refused = provider.publish(&product_id, "*.wild.example.com", "none").await;
    let refused = format!("{:#}", refused.err().context("it was accepted")?);
    ensure!(refused.contains("unsupported_by_agents"), "{refused}");
    ensure!(refused.contains("wildcard_hosts"), "{refused}");
    serve(&stack, &provider, "exact", "a.wild.example.com").await?;
    Ok(())
}

/// The only Envoy loses the module: nothing of the wildcard is answered wrongly, and it says why.
#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_waits_for_the_module_and_says_so_while_an_envoy_lacks_it() -> Result<()> {
    let _turn = side_by_side().await;
    let stack = Stack::start(Options::default()).await?;
    let provider = Provider::create(&stack, "acme").await?;
    grant(&stack, &provider, "wild.example.com").await?;
    let wild = serve(&stack, &provider, "wild", "*.wild.example.com").await?;
    let exact = serve(&stack, &provider, "exact", "a.wild.example.com").await?;
    let Echo { product_id, .. } = provider.echo(&stack, "next").await?;
    let door = async |door: &str| {
        let url = format!("http://{}/door", stack.agent.admin);
        let body = json!({ "door": door }).to_string();
        let request = reqwest::Client::new().post(url).header("content-type", "application/json");
        anyhow::Ok(request.body(body).send().await?.error_for_status()?)
    };
    door("ext-authz").await?;
    let failed = stack.publish_reaches(&wild, "failed", PATIENCE).await?;
    assert_eq!(failed["last_error"]["code"], "no_module", "{failed}");
    assert_eq!(failed["last_error"]["resource"], "*.wild.example.com");
    // First its listener changes, then the scope goes, so that nobody finds it as a name either.
    for host in ["b.wild.example.com", "*.wild.example.com"] {
        becomes(&provider, host, "404").await?;
    }
    assert_eq!(who(&provider, "a.wild.example.com").await?, "exact");
    stack.publish_reaches(&exact, "active", PATIENCE).await?;
    let next = async || provider.publish(&product_id, "*.next.wild.example.com", "none").await;
    let refused = format!("{:#}", next().await.err().context("it was accepted")?);
    ensure!(refused.contains("unsupported_by_agents"), "{refused}");

    door("auto").await?;
    stack.publish_reaches(&wild, "active", PATIENCE).await?;
    becomes(&provider, "b.wild.example.com", "wild").await?;
    let next = next().await?;
    stack.publish_reaches(&next, "active", PATIENCE).await?;
    assert_eq!(who(&provider, "a.next.wild.example.com").await?, "next");
    Ok(())
}

/// All files below a directory.
fn walk(directory: &std::path::Path) -> Result<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        match path.is_dir() {
            true => files.extend(walk(&path)?),
            false => files.push(path),
        }
    }
    Ok(files)
}
