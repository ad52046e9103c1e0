//! nginx and HAProxy as plain proxies of one thread that keep their connections.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::certificate::{Certificate, NAME};

/// One process without a master, so that its CPU and its memory are the worker's. The body of the
/// largest request fits its buffer, or it would go through a file.
const NGINX: &str = r"
worker_processes 1;
daemon off;
master_process off;
pid FOLDER/nginx.pid;
error_log stderr error;
worker_rlimit_nofile 16384;
events { worker_connections 16384; }
http {
  access_log off;
  client_body_temp_path FOLDER/body;
  proxy_temp_path FOLDER/proxy;
  fastcgi_temp_path FOLDER/fastcgi;
  uwsgi_temp_path FOLDER/uwsgi;
  scgi_temp_path FOLDER/scgi;
  client_max_body_size 0;
  client_body_buffer_size 2m;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  upstream backend {
    server BACKEND;
    keepalive 256;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
  }
  server {
    listen LISTEN;
    location / {
      proxy_pass SCHEME://backend;
      proxy_http_version 1.1;
      proxy_set_header Connection '';
      UPSTREAM
    }
    FRONT
  }
}
";

/// Without `http-no-delay` it holds a small event back for 200 ms.
const HAPROXY: &str = r"
global
  nbthread 1
  maxconn 9000
defaults
  mode http
  maxconn 9000
  http-reuse always
  option http-no-delay
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout http-keep-alive 1h
frontend clients
  bind LISTEN
  default_backend servers
backend servers
  server one BACKEND
";

/// An address, and the certificate if TLS is spoken there.
type Side<'a> = (SocketAddr, Option<&'a Certificate>);

/// The command of nginx between two sides.
pub(super) fn nginx(folder: &Path, front: Side<'_>, back: Side<'_>) -> Result<Command> {
    let (listen, certificate) = front;
    let (listen, front) = match certificate {
        None => (listen.to_string(), String::new()),
        Some(Certificate { file, key }) => (
            format!("{listen} ssl"),
            format!(
                "ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {}; ssl_certificate_key {};",
                file.display(),
                key.display()
            ),
        ),
    };
    let (backend, authority) = back;
    let (scheme, upstream) = match authority {
        None => ("http", String::new()),
        Some(Certificate { file, .. }) => (
            "https",
            format!(
                "proxy_ssl_name {NAME}; proxy_ssl_server_name on; proxy_ssl_verify on;\n      \
                 proxy_ssl_trusted_certificate {};",
                file.display()
            ),
        ),
    };
    let text = NGINX
        .replace("FOLDER", &folder.display().to_string())
        .replace("BACKEND", &backend.to_string())
        .replace("LISTEN", &listen)
        .replace("SCHEME", scheme)
        .replace("UPSTREAM", &upstream)
        .replace("FRONT", &front);
    let file = folder.join("nginx.conf");
    std::fs::write(&file, text).context("write the settings of nginx")?;
    let mut command = Command::new("nginx");
    command.args(["-e", "stderr", "-p"]).arg(folder);
    command.arg("-c").arg(file);
    Ok(command)
}

/// The command of HAProxy between two addresses.
pub(super) fn haproxy(folder: &Path, listen: SocketAddr, backend: SocketAddr) -> Result<Command> {
    let text = HAPROXY
        .replace("LISTEN", &listen.to_string())
        .replace("BACKEND", &backend.to_string());
    let file = folder.join("haproxy.cfg");
    std::fs::write(&file, text).context("write the settings of HAProxy")?;
    let mut command = Command::new("haproxy");
    command.args(["-db", "-q", "-f"]).arg(file);
    Ok(command)
}

/// Those of `programs` (a program and an argument that makes it end at once) that are not installed.
pub(crate) fn missing(programs: &[(&'static str, &str)]) -> Vec<&'static str> {
    let absent = |(program, argument): &&(&'static str, &str)| {
        let status = Command::new(program)
            .arg(argument)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.is_err()
    };
    programs
        .iter()
        .filter(absent)
        .map(|(name, _)| *name)
        .collect()
}
