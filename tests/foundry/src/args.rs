//! The command line: typed text, and its way to a [`Config`].

use std::{net::SocketAddr, num::NonZeroUsize, time::Duration};

use clap::{CommandFactory as _, Parser};

use crate::config::{
    Config, DEFAULT_COMPLETION_TOKENS, DEFAULT_DEPLOYMENTS, DEFAULT_KEY, DEFAULT_RECORD,
    DEFAULT_REGION, DeploymentConfig, MAX_COMPLETION_TOKENS,
};

const AFTER_HELP: &str = "\
Try it:
  curl localhost:8082/openai/v1/chat/completions -H 'api-key: sim-key' \\
    -H 'content-type: application/json' \\
    -d '{\"model\":\"gpt-4o-mini\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}'

Control, on the same port, without a key:
  PUT    /_sim/faults    JSON list of {deployment?, api_key?, operation?, status?, body?, headers?,
                         refuse?, delay_ms?, cut_after_chunks?, hang?, truncate?, stream_error?,
                         spacing?, times?}; the first that matches applies
  GET    /_sim/faults    the faults that are left
  DELETE /_sim/faults    no more faults
  GET    /_sim/requests  what was received, and what became of it
  DELETE /_sim/requests  forget that
  GET    /_sim/billed    requests and tokens really produced, per deployment and per key
  PUT    /_sim/keys      JSON list of the keys that are accepted from now on
  PUT    /_sim/directory what Entra knows: tenant, apps, APIs, lifetime of tokens; GET shows it
  PUT    /_sim/entra-faults  faults of Entra_Token, Entra_Discovery, Entra_Keys, Imds_Token and
                         AppService_Token, as above
  POST   /_sim/tokens    {resource?, version?, client?, user?, scopes?, roles?, groups?, lifetime_s?,
                         starts_s?, claims?}: a token of Entra for a caller of an API
  POST   /_sim/rotations {announced?, keeps_old?}: Entra signs by another key
  POST   /_sim/assertions  {subject, audience, lifetime_s}: a token of the cluster for it
  GET    /_sim/tokens    every token that Entra made so far
  DELETE /_sim/tokens    refuse every token of Entra made so far

Exit codes: 0 stopped by a signal, 1 failure, 64 wrong usage.";

/// A simulated Microsoft Foundry resource, for tests, benchmarks and trying out a gateway.
#[derive(Debug, Parser)]
#[command(name = "foundry-sim", version, after_help = AFTER_HELP)]
pub struct Args {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, env = "TUNDISH_SIM_LISTEN", default_value = "127.0.0.1:8082")]
    pub listen: SocketAddr,

    /// Accepted API key; repeatable, or separated by ';'
    #[arg(long = "api-key", env = "TUNDISH_SIM_API_KEY", value_name = "KEY", value_delimiter = ';',
          default_value = DEFAULT_KEY, hide_env_values = true)]
    pub api_keys: Vec<String>,

    /// A deployment; repeatable, or separated by ';'. tpm and rpm limit tokens and requests per
    /// minute (rpm defaults to 6 per 1,000 tpm), ptu makes it provisioned, with N units of 2,500
    /// tokens a minute each; cached, cache_write, reasoning and audio say how many tokens of each
    /// answer its usage reports in these classes; cache=on gives it a prompt cache, which says how
    /// much is cached
    #[arg(long = "deployment", env = "TUNDISH_SIM_DEPLOYMENT", value_delimiter = ';',
          value_name = "NAME[=MODEL][,SETTING=N]...", default_values = DEFAULT_DEPLOYMENTS)]
    pub deployments: Vec<DeploymentConfig>,

    /// Time to the first byte of an answer, such as 300ms
    #[arg(long, env = "TUNDISH_SIM_LATENCY", value_parser = duration, default_value = "0ms")]
    pub latency: Duration,

    /// Time between two token chunks of a stream, such as 20ms
    #[arg(long, env = "TUNDISH_SIM_TOKEN_INTERVAL", value_parser = duration,
          default_value = "0ms")]
    pub token_interval: Duration,

    /// Time before [DONE], and again before the end of a stream's body: Azure writes each apart. 0ms
    /// writes what is ready as one
    #[arg(long, env = "TUNDISH_SIM_END_DELAY", value_parser = duration, default_value = "1ms")]
    pub end_delay: Duration,

    /// Time that a response in the background takes, half of which it is queued, and that a batch takes
    #[arg(long, env = "TUNDISH_SIM_BACKGROUND_TIME", value_parser = duration, default_value = "1s")]
    pub background_time: Duration,

    /// Tokens of an answer that the caller does not cap
    #[arg(long, env = "TUNDISH_SIM_COMPLETION_TOKENS", value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_COMPLETION_TOKENS)),
          default_value_t = DEFAULT_COMPLETION_TOKENS)]
    pub completion_tokens: u32,

    /// Threads that serve connections
    #[arg(long, env = "TUNDISH_SIM_THREADS", value_name = "N", default_value_t = NonZeroUsize::MIN)]
    pub threads: NonZeroUsize,

    /// Requests to remember for /_sim/requests; 0 remembers none, for benchmarks
    #[arg(long, env = "TUNDISH_SIM_RECORD", value_name = "N", default_value_t = DEFAULT_RECORD)]
    pub record: usize,

    /// Span over which rpm is judged; Azure uses 1s or 10s
    #[arg(long, env = "TUNDISH_SIM_REQUEST_WINDOW", value_parser = duration, default_value = "60s")]
    pub request_window: Duration,

    /// The value of the x-ms-region header
    #[arg(long, env = "TUNDISH_SIM_REGION", default_value = DEFAULT_REGION)]
    pub region: String,
}

impl TryFrom<Args> for Config {
    type Error = clap::Error;

    /// Checks what no single argument tells, and reports all problems at once.
    fn try_from(args: Args) -> Result<Self, Self::Error> {
        let mut problems = Vec::new();
        if args.api_keys.iter().any(String::is_empty) {
            problems.push("--api-key must not be empty".to_owned());
        }
        let minute = Duration::from_secs(60);
        if args.request_window.is_zero() || args.request_window > minute {
            problems.push("--request-window must lie between 1ms and 60s".to_owned());
        }
        if http::HeaderValue::from_str(&args.region).is_err() {
            problems.push("--region cannot be sent in a header".to_owned());
        }
        let mut names: Vec<&str> = args.deployments.iter().map(|d| d.name.as_str()).collect();
        names.sort_unstable();
        if let Some([twice, _]) = names.array_windows().find(|[a, b]| a == b) {
            problems.push(format!("--deployment '{twice}' is given twice"));
        }
        if !problems.is_empty() {
            let kind = clap::error::ErrorKind::ValueValidation;
            return Err(Args::command().error(kind, problems.join("; ")));
        }
        Ok(Self {
            listen: args.listen,
            api_keys: args.api_keys,
            deployments: args.deployments,
            latency: args.latency,
            token_interval: args.token_interval,
            end_delay: args.end_delay,
            background_time: args.background_time,
            completion_tokens: args.completion_tokens,
            threads: args.threads,
            record: args.record,
            request_window: args.request_window,
            region: args.region,
        })
    }
}

/// Reads `250us`, `20ms`, `1s` or `2m`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u32 = number
        .parse()
        .map_err(|error| format!("no number of time: {error}"))?;
    let number = u64::from(number);
    match unit {
        "us" => Ok(Duration::from_micros(number)),
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        _ => Err("use a whole number with us, ms, s or m, such as 20ms".to_owned()),
    }
}
