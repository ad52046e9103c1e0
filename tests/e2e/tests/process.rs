//! The binaries as processes: signals, ports, file descriptors, flags and the admin port.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests_support::{
    Process, Quickstart, Replicas, Signal, binary, eventually, free_port, http, workspace,
};

const LIMIT: Duration = Duration::from_secs(20);

/// A second signal must not wait for what the first one waits for.
const AT_ONCE: Duration = Duration::from_secs(2);

fn tundish(arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(binary("tundish")?).args(arguments).output()?)
}

/// `tundish run` on the quickstart's manifests, with these flags.
fn run_command(more: &[&str]) -> Result<Command> {
    let mut command = Command::new(binary("tundish")?);
    command.args(["run", "--manifests"]);
    command.arg(workspace().join("examples/quickstart"));
    command.args(more);
    Ok(command)
}

fn addresses() -> Result<[String; 2]> {
    Ok([free_port()?, free_port()?].map(|port| format!("127.0.0.1:{port}")))
}

/// A backend that takes connections and says nothing, and manifests before it.
fn silent_backend(folder: &Path) -> Result<(TcpListener, PathBuf)> {
    let backend = TcpListener::bind("127.0.0.1:0")?;
    let manifests = folder.join("manifests");
    std::fs::create_dir(&manifests)?;
    let silent = backend.local_addr()?.to_string();
    for name in ["backend.yaml", "route.yaml", "consumers.yaml"] {
        let text = std::fs::read_to_string(workspace().join("examples/quickstart").join(name))?;
        std::fs::write(
            manifests.join(name),
            text.replace("127.0.0.1:8082", &silent),
        )?;
    }
    Ok((backend, manifests))
}

/// A call that the quickstart's route takes.
fn call() -> String {
    let body = json!({"model": "gpt-5", "messages": [{"role": "user", "content": "Hi"}]});
    let body = body.to_string();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\napi-key: search-team-key\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A gateway, and a backend that takes connections and says nothing, with a request under way to it.
struct Busy {
    run: Process,
    _call: TcpStream,
    _backend: (TcpListener, TcpStream),
    _folder: tempfile::TempDir,
}

impl Busy {
    async fn start(more: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (backend, manifests) = silent_backend(folder.path())?;
        let [listen, admin] = addresses()?;
        let mut command = Command::new(binary("tundish")?);
        command
            .args(["run", "--listen", &listen, "--admin", &admin])
            .args(more);
        command.arg("--manifests").arg(&manifests);
        let mut run = Process::spawn("busy", &mut command, folder.path())?;
        run.wait_for_http(&format!("http://{admin}/readyz"), LIMIT)
            .await?;
        let mut call = TcpStream::connect(&listen)?;
        std::io::Write::write_all(&mut call, self::call().as_bytes())?;
        backend.set_nonblocking(true)?;
        let arrived = eventually("the request reaches the backend", LIMIT, async || {
            backend.accept().ok()
        });
        let (arrived, _peer) = arrived.await?;
        Ok(Self {
            run,
            _call: call,
            _backend: (backend, arrived),
            _folder: folder,
        })
    }
}

#[tokio::test]
async fn hangup_and_user_signals_stop_nothing() -> Result<()> {
    let mut quickstart = Quickstart::start(&[]).await?;
    for (signal, name) in [
        (Signal::HUP, "SIGHUP"),
        (Signal::USR1, "SIGUSR1"),
        (Signal::USR2, "SIGUSR2"),
    ] {
        quickstart.run.signal(signal)?;
        let line = quickstart.run.wait_for_line(name, LIMIT).await?;
        assert!(line.contains("signal ignored"), "{line}");
    }
    let url = format!("{}/readyz", quickstart.admin);
    assert_eq!(http::get(&url).await?.status, 200);
    let ended = quickstart.run.terminate(LIMIT).await?;
    assert!(ended.success(), "{ended}");
    Ok(())
}

#[tokio::test]
async fn a_further_signal_ends_what_is_waited_for() -> Result<()> {
    for (first, second) in [(Signal::TERM, Signal::INT), (Signal::INT, Signal::TERM)] {
        // Longer than any test.
        let mut busy = Busy::start(&["--drain-delay", "600"]).await?;
        busy.run.signal(first)?;
        if first == Signal::TERM {
            busy.run.wait_for_line("drain delay", LIMIT).await?;
            busy.run.signal(second)?;
        }
        busy.run.wait_for_line("stopping: ", LIMIT).await?;
        // A signal of another kind is none to stop.
        busy.run.signal(Signal::HUP)?;
        busy.run.wait_for_line("signal ignored", LIMIT).await?;
        assert!(busy.run.ended()?.is_none(), "the request still runs");
        busy.run.signal(second)?;
        let ended = busy.run.wait(AT_ONCE).await?;
        assert!(ended.success(), "{ended}");
        let log = busy.run.log();
        assert!(log.contains("ends the grace period"), "{log}");
        assert!(
            log.contains("code=shutting_down") || log.contains(r#""code":"shutting_down""#),
            "{log}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn responses_in_the_background_that_a_stop_gives_up_are_counted_in_the_log() -> Result<()> {
    let arguments = ["--drain-grace", "1", "--log-format", "text"];
    let simulator = ["--background-time", "60s"];
    let mut replicas = Replicas::start(1, "", &arguments, &simulator).await?;
    let url = format!("{}/v1/responses", replicas.at(0).gateway);
    let body = json!({"model": "gpt-5", "input": "Hi", "background": true}).to_string();
    for _ in 0..2 {
        let answer = http::post_json(&url, &[("api-key", "search-team-key")], body.clone());
        let answer = answer.await?;
        ensure!(answer.status == 200, "{}", answer.text());
    }
    let log = replicas.manifests().with_file_name("tundish-0.log");
    replicas.terminate(0, LIMIT).await?;
    let log = std::fs::read_to_string(log)?;
    for told in ["are followed for the grace period", "settled as reserved"] {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(told)).collect();
        ensure!(lines.len() == 1, "{told:?} in {lines:?} of {log}");
        ensure!(lines[0].contains("responses=2"), "{}", lines[0]);
    }
    Ok(())
}

#[tokio::test]
async fn a_port_of_another_process_is_refused_except_for_a_hand_over() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let [listen, admin] = addresses()?;
    // Several cores share the port of their process.
    let flags = ["--listen", &listen, "--admin", &admin, "--threads", "3"];
    let mut first = Process::spawn("first", &mut run_command(&flags)?, folder.path())?;
    first
        .wait_for_http(&format!("http://{admin}/readyz"), LIMIT)
        .await?;
    let expect = format!("{listen} is in use by another process");
    let [_, other] = addresses()?;
    let second = run_command(&["--listen", &listen, "--admin", &other])?.output()?;
    assert_eq!(second.status.code(), Some(1));
    let told = String::from_utf8(second.stderr)?;
    assert!(told.contains(&expect), "{told}");
    let proxy = Command::new(binary("tundish-proxy")?)
        .args(["--operator", "http://127.0.0.1:1", "--operator-plaintext"])
        .args(["--replica", "r", "--listen", &listen, "--admin", &other])
        .output()?;
    assert_eq!(proxy.status.code(), Some(1));
    let log = String::from_utf8(proxy.stdout)?;
    assert!(log.contains(&expect), "{log}");
    let ended = first.terminate(LIMIT).await?;
    assert!(ended.success(), "{ended}");

    // The port is free at once, and a new process may take over from the old one.
    let mut shared = Vec::new();
    for (name, more) in [("old", &[][..]), ("new", &["--reuse-port"])] {
        let [_, admin] = addresses()?;
        let flags = [&["--listen", &listen, "--admin", &admin], more].concat();
        let mut one = Process::spawn(name, &mut run_command(&flags)?, folder.path())?;
        one.wait_for_http(&format!("http://{admin}/readyz"), LIMIT)
            .await?;
        shared.push(one);
    }
    let url = format!("http://{listen}/v1/models");
    shared.remove(0).terminate(LIMIT).await?;
    for _ in 0..10 {
        assert_eq!(http::get(&url).await?.status, 401);
    }
    Ok(())
}

#[tokio::test]
async fn without_descriptors_callers_are_turned_away_and_the_log_says_so_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let [listen, admin] = addresses()?;
    let flags = ["--listen", &listen, "--admin", &admin, "--threads", "1"];
    let inner = run_command(&flags)?;
    let mut command = Command::new("sh");
    // The soft limit is lower than the hard one, to which it is raised.
    command
        .args(["-c", r#"ulimit -Sn 20; ulimit -Hn 60; exec "$0" "$@""#])
        .arg(inner.get_program())
        .args(inner.get_args());
    let mut run = Process::spawn("few", &mut command, folder.path())?;
    run.wait_for_http(&format!("http://{admin}/readyz"), LIMIT)
        .await?;
    let line = run.wait_for_line("few files may be open", LIMIT).await?;
    assert!(line.contains("\"limit\":60"), "{line}");

    // Each has a request whose body does not come: without one it would make room.
    let begun = "POST /v1/chat/completions HTTP/1.1\r\nhost: gw\r\napi-key: search-team-key\r\n\
                 content-length: 9\r\n\r\n{";
    let mut held = Vec::new();
    for _ in 0..60 {
        let mut stream = TcpStream::connect(&listen)?;
        // The last ones are turned away already.
        std::io::Write::write_all(&mut stream, begun.as_bytes()).ok();
        held.push(stream);
    }
    run.wait_for_line("no file descriptor is left", LIMIT)
        .await?;
    let url = format!("http://{listen}/v1/models");
    let mut ids = Vec::new();
    for _ in 0..2 {
        let answer = eventually("a refusal", LIMIT, async || {
            // One that has not sent its request yet makes room, or is cut.
            let answer = http::get(&url).await.ok()?;
            (answer.status == 503).then_some(answer)
        });
        let answer = answer.await?;
        assert!(answer.text().contains("no file descriptor left"));
        ids.push(answer.header("x-request-id").context("an id")?.to_owned());
    }
    // Each has an id of its own, by which it is found in the log.
    assert_ne!(ids[0], ids[1]);
    for id in ids {
        let id = format!("\"request_id\":\"{id}\"");
        let line = run.wait_for_line(&id, LIMIT).await?;
        assert!(line.contains("\"code\":\"overloaded\""), "{line}");
    }
    // Probes find a descriptor all the same, again and again: some are kept for them.
    for _ in 0..20 {
        for page in ["readyz", "livez"] {
            let answer = http::get(&format!("http://{admin}/{page}")).await?;
            assert_eq!(answer.status, 200, "{page}");
        }
    }
    drop(held);
    eventually("callers are answered again", LIMIT, async || {
        (http::get(&url).await.ok()?.status == 401).then_some(())
    })
    .await?;
    let log = run.log();
    let lines = log.matches("no file descriptor is left").count();
    assert_eq!(lines, 1, "{log}");
    Ok(())
}

#[tokio::test]
async fn a_call_without_a_descriptor_for_its_backend_is_refused_for_that() -> Result<()> {
    // The process has about fifteen of its own, and most calls find one for their client only.
    const CALLS: usize = 34;
    let folder = tempfile::tempdir()?;
    let (backend, manifests) = silent_backend(folder.path())?;
    let [listen, admin] = addresses()?;
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"ulimit -n 60; exec "$0" "$@""#])
        .arg(binary("tundish")?)
        .args([
            "run",
            "--listen",
            &listen,
            "--admin",
            &admin,
            "--threads",
            "1",
        ])
        .arg("--manifests")
        .arg(&manifests);
    let mut run = Process::spawn("few", &mut command, folder.path())?;
    run.wait_for_http(&format!("http://{admin}/readyz"), LIMIT)
        .await?;
    let mut clients = Vec::new();
    for _ in 0..CALLS {
        clients.push(TcpStream::connect(&listen)?);
    }
    for client in &mut clients {
        std::io::Write::write_all(client, call().as_bytes())?;
        client.set_nonblocking(true)?;
    }
    let refused = eventually("a refusal", LIMIT, async || {
        clients.iter_mut().find_map(|client| {
            let mut answer = [0; 4_096];
            let size = client.peek(&mut answer).ok().filter(|size| *size > 0)?;
            Some(String::from_utf8_lossy(&answer[..size]).into_owned())
        })
    });
    let refused = refused.await?;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(refused.contains(r#""code":"overloaded""#), "{refused}");
    let why = "no file descriptor or memory left for a call to a backend";
    assert!(refused.contains(why), "{refused}");
    // Others have found one.
    backend.accept()?;
    Ok(())
}

#[test]
fn a_log_level_that_would_silence_the_log_is_refused_by_every_binary() -> Result<()> {
    let operator = ["--kubeconfig", "/no/such/file"];
    let proxy = ["--operator", "http://127.0.0.1:1", "--replica", "r"];
    let run = ["run", "--manifests", "d"];
    for (name, args) in [
        ("tundish", &run[..]),
        ("tundish-proxy", &proxy),
        ("tundish-operator", &operator),
    ] {
        for (level, expect) in [
            ("nonsense", "off, error, warn, info, debug, trace"),
            ("access=off", "write info,access=off"),
        ] {
            let output = Command::new(binary(name)?)
                .args(args)
                .args(["--log-level", level])
                .output()?;
            let told = String::from_utf8(output.stderr)?;
            assert_eq!(output.status.code(), Some(64), "{name}: {told}");
            assert!(told.contains(expect), "{name}: {told}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn addresses_are_taken_as_users_write_them() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let [port, admin] = [free_port()?, free_port()?];
    let flags = [
        format!("--listen=localhost:{port}"),
        format!("--admin=:{admin}"),
    ];
    let flags = [flags[0].as_str(), flags[1].as_str()];
    let mut run = Process::spawn("named", &mut run_command(&flags)?, folder.path())?;
    run.wait_for_http(&format!("http://127.0.0.1:{admin}/readyz"), LIMIT)
        .await?;
    let answer = http::get(&format!("http://127.0.0.1:{port}/v1/models")).await?;
    assert_eq!(answer.status, 401);
    let output = run_command(&["--listen", "127.0.0.1"])?.output()?;
    assert_eq!(output.status.code(), Some(64));
    let told = String::from_utf8(output.stderr)?;
    assert!(told.contains("write 127.0.0.1:8080"), "{told}");
    Ok(())
}

#[tokio::test]
async fn logs_are_text_on_a_terminal_and_json_elsewhere() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let serving = "gateway port open";
    for (name, format, on_terminal, is_json) in [
        ("file", None, false, true),
        ("terminal", None, true, false),
        ("asked", Some("--log-format=json"), true, true),
    ] {
        let [listen, admin] = addresses()?;
        let mut flags = vec!["--listen", &listen, "--admin", &admin];
        flags.extend(format);
        let inner = run_command(&flags)?;
        let mut command = inner;
        if on_terminal {
            let words: Vec<String> = std::iter::once(command.get_program())
                .chain(command.get_args())
                .map(|word| word.to_string_lossy().into_owned())
                .collect();
            // On the terminal it leads a session of its own, which the end of our group does not reach.
            let line = format!("exec setpriv --pdeathsig KILL {}", words.join(" "));
            command = Command::new("script");
            command.args(["-qec", &line, "/dev/null"]);
        }
        let mut run = Process::spawn(name, &mut command, folder.path())?;
        let line = run.wait_for_line(serving, LIMIT).await?;
        assert_eq!(
            line.trim_start().starts_with('{'),
            is_json,
            "{name}: {line}"
        );
    }
    Ok(())
}

/// An address of this machine that is not a loopback one, as others would reach it.
fn own_address() -> Result<String> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // Sends nothing: the system only chooses the address.
    socket.connect("192.0.2.1:9")?;
    Ok(socket.local_addr()?.ip().to_string())
}

#[tokio::test]
async fn pages_of_the_admin_port_are_for_this_machine_or_a_token() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let token = folder.path().join("token");
    std::fs::write(&token, "s3cret\n")?;
    let token = token.to_str().context("UTF-8")?;
    let own = own_address()?;
    ensure!(
        !own.starts_with("127."),
        "a route to other machines is needed"
    );
    for (name, more, refused) in [
        ("closed", &[][..], 403),
        ("open", &["--admin-token-file", token], 401),
    ] {
        let [listen, port] = [free_port()?, free_port()?];
        let (listen, admin) = (format!("127.0.0.1:{listen}"), format!(":{port}"));
        let flags = [&["--listen", &listen, "--admin", &admin], more].concat();
        let mut run = Process::spawn(name, &mut run_command(&flags)?, folder.path())?;
        let (near, far) = (
            format!("http://127.0.0.1:{port}"),
            format!("http://{own}:{port}"),
        );
        run.wait_for_http(&format!("{far}/readyz"), LIMIT).await?;
        for path in ["/livez", "/metrics"] {
            assert_eq!(http::get(&format!("{far}{path}")).await?.status, 200);
        }
        for path in ["/quota", "/explain?model=gpt-5&consumer=intern"] {
            assert_eq!(http::get(&format!("{near}{path}")).await?.status, 200);
            let answer = http::get(&format!("{far}{path}")).await?;
            assert_eq!(answer.status, refused, "{}", answer.text());
        }
        let explain = ["explain", "--model", "gpt-5", "--consumer", "intern"];
        for command in [&["quota"][..], &explain] {
            let without = [command, &["--admin", &far]].concat();
            let with = [&without[..], &["--admin-token-file", token]].concat();
            assert_eq!(tundish(&without)?.status.code(), Some(1));
            let expect = if more.is_empty() { Some(1) } else { Some(0) };
            assert_eq!(tundish(&with)?.status.code(), expect, "{with:?}");
        }
    }
    let nothing = run_command(&["--admin-token-file", "/no/such/file"])?.output()?;
    assert_eq!(nothing.status.code(), Some(1));
    let told = String::from_utf8(nothing.stderr)?;
    assert!(told.contains("cannot read the admin token"), "{told}");
    Ok(())
}
