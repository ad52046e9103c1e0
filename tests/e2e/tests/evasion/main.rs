//! Keys whose holders try to get more than their limit allows, or to be charged for less than they take, in
//! every API. What they are charged is not below what the resource bills, and what it bills is within the limit.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_support::{Quickstart, eventually, http};
use tokio::task::JoinSet;

use self::tricks::{Leaves, Trick};

mod tricks;

const MANIFESTS: &str = include_str!("manifests.yaml");
/// What each holder of a key may use in all, as the manifests have it.
const LIMIT: u64 = 12_000;
/// Answers without a bound have 120 tokens, one each millisecond, and some models think before.
const SIM: &[&str] = &[
    "--completion-tokens=120",
    "--token-interval=1ms",
    "--deployment=gpt-5=gpt-5-2025-08-07",
    "--deployment=gpt-5.5=gpt-5.5-2026-04-23,reasoning=60",
    "--deployment=claude-sonnet-5-5",
    "--deployment=claude-opus-5-5,reasoning=60",
    "--deployment=text-embedding-3-large",
    "--deployment=gpt-3.5-turbo-instruct",
    "--deployment=gpt-image-2=gpt-image-2-2026-04-21",
];

/// How many calls a trick makes at once, and how often. Together they ask for more than the limit.
const AT_ONCE: usize = 13;
const ROUNDS: usize = 8;

/// What Claude asks for; others ignore it.
const VERSION: (&str, &str) = ("anthropic-version", "2023-06-01");

/// Tokens that were charged to the holder of a key, and those that the resource billed meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    charged: u64,
    billed: u64,
}

struct Front {
    quickstart: Quickstart,
}

impl Front {
    async fn start(keys: &[&str]) -> Result<Self> {
        let secret = |name: &&str| {
            format!(
                "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\n  labels: \
                 {{tundish.dev/keys: models}}\nstringData: {{key: key-of-{name}}}\n"
            )
        };
        let secrets: String = keys.iter().map(secret).collect();
        let manifests = [MANIFESTS, &secrets].concat();
        let quickstart = Quickstart::with_manifests(&manifests, SIM).await?;
        Ok(Self { quickstart })
    }

    /// Calls once, and hangs up where the client wants to. Returns the status.
    async fn call(&self, path: &str, key: &str, body: &str, leaves: Leaves) -> Result<u16> {
        call(&self.quickstart.gateway, path, key, body, leaves).await
    }

    /// Makes all calls of a trick.
    async fn play(&self, trick: &Trick) -> Result<Vec<u16>> {
        let mut statuses = Vec::new();
        let mut bodies = trick.bodies.iter().cycle();
        for _ in 0..ROUNDS {
            let mut calls = JoinSet::new();
            for body in bodies.by_ref().take(AT_ONCE) {
                let gateway = self.quickstart.gateway.clone();
                let (path, leaves, body) = (trick.path, trick.leaves, body.clone());
                let key = format!("key-of-{}", trick.name);
                calls.spawn(async move { call(&gateway, path, &key, &body, leaves).await });
            }
            while let Some(status) = calls.join_next().await {
                statuses.push(status??);
            }
        }
        Ok(statuses)
    }

    async fn metric(&self, name: &str, label: &str) -> Result<u64> {
        let page = http::get(&format!("{}/metrics", self.quickstart.admin)).await?;
        let text = page.text();
        let samples = text
            .lines()
            .filter(|line| line.starts_with(name) && line.contains(label));
        Ok(samples
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
            .sum())
    }

    async fn charged(&self, holder: &str) -> Result<u64> {
        let mut sum = 0;
        for kind in ["input", "output"] {
            let labels = format!("consumer=\"default/{holder}\",token_type=\"{kind}\"");
            sum += self.metric("tundish_tokens_total", &labels).await?;
        }
        Ok(sum)
    }

    /// All that the resource has billed; `None` while it works on a request.
    async fn billed(&self) -> Result<Option<u64>> {
        let sim = &self.quickstart.sim;
        let requests: Vec<Value> = http::get(&format!("{sim}/_sim/requests")).await?.json()?;
        let runs = |one: &Value| one.get("outcome") == Some(&json!("in_progress"));
        let bill: Value = http::get(&format!("{sim}/_sim/billed")).await?.json()?;
        let totals = bill.get("keys").and_then(Value::as_object);
        let totals = totals.into_iter().flat_map(serde_json::Map::values);
        let tokens = totals.flat_map(|one| {
            let class = |name| one.get(name).and_then(Value::as_u64).unwrap_or(0);
            [class("prompt_tokens"), class("completion_tokens")]
        });
        Ok((!requests.iter().any(runs)).then(|| tokens.sum()))
    }

    /// Waits until every call is settled.
    async fn settled(&self, holder: &str) -> Result<Sums> {
        eventually("all is settled", Duration::from_secs(20), async || {
            let running = self.metric("tundish_in_flight_requests", "").await.ok()?;
            if running > 0 {
                return None;
            }
            let billed = self.billed().await.ok()??;
            let charged = self.charged(holder).await.ok()?;
            Some(Sums { charged, billed })
        })
        .await
    }

    /// Plays the tricks one after the other: what the resource bills in between is of that trick.
    #[expect(clippy::print_stdout, reason = "the figures of a run, shown on demand")]
    async fn play_all(&self, tricks: &[Trick]) -> Result<()> {
        let (mut all, mut before) = (Sums::default(), 0);
        for trick in tricks {
            let statuses = self.play(trick).await?;
            let after = self.settled(&trick.name).await?;
            let sums = Sums {
                charged: after.charged,
                billed: after.billed - before,
            };
            before = after.billed;
            all.charged += sums.charged;
            all.billed += sums.billed;
            let served = statuses.iter().filter(|status| **status == 200).count();
            let refused = statuses.iter().filter(|status| **status == 429).count();
            println!(
                "{}: {sums:?}, {served} served, {refused} refused",
                trick.name
            );
            check(&trick.name, sums)?;
            ensure!(
                sums.billed > 0,
                "{}: no call was served: {statuses:?}",
                trick.name
            );
            ensure!(sums.billed <= LIMIT, "{}: {sums:?}", trick.name);
            http::request(
                ::http::Method::DELETE,
                &format!("{}/_sim/requests", self.quickstart.sim),
                &[],
                "",
            )
            .await?;
        }
        println!("all: {all:?}");
        check("all", all)
    }
}

async fn call(gateway: &str, path: &str, key: &str, body: &str, leaves: Leaves) -> Result<u16> {
    let url = format!("{gateway}{path}");
    let headers = [("api-key", key), VERSION];
    let mut answer = http::stream_json(&url, &headers, body.to_owned()).await?;
    let status = answer.status;
    let mut read = String::new();
    while let Some(chunk) = answer.next().await? {
        if let Leaves::After(text, times) = leaves {
            read.push_str(&String::from_utf8_lossy(&chunk.bytes));
            if read.matches(text).count() >= times {
                break;
            }
        }
    }
    Ok(status)
}

/// Nothing is charged below 95 % of what is billed.
fn check(name: &str, sums: Sums) -> Result<()> {
    let enough = sums.charged * 100 >= sums.billed * 95;
    enough
        .then_some(())
        .with_context(|| format!("{name}: {sums:?}"))
}

async fn play(tricks: Vec<Trick>) -> Result<()> {
    let names: Vec<&str> = tricks.iter().map(|trick| trick.name.as_str()).collect();
    Front::start(&names).await?.play_all(&tricks).await
}

#[tokio::test]
async fn a_client_that_leaves_pays_for_what_it_took() -> Result<()> {
    play(tricks::left_streams()).await
}

#[tokio::test]
async fn a_client_that_leaves_pays_for_thoughts_that_it_did_not_see() -> Result<()> {
    play(tricks::left_thoughts()).await
}

#[tokio::test]
async fn one_request_for_many_answers_pays_for_all() -> Result<()> {
    play(tricks::many_in_one()).await
}

#[tokio::test]
async fn answers_without_a_bound_stay_within_the_limit() -> Result<()> {
    play(tricks::unbounded()).await
}

#[tokio::test]
async fn a_body_that_can_be_read_in_two_ways_is_not_cheaper() -> Result<()> {
    play(tricks::ambiguous()).await
}

#[tokio::test]
async fn a_limit_that_is_spent_in_one_api_is_spent_in_all() -> Result<()> {
    let apis = [
        (tricks::CHAT, tricks::chat()),
        (tricks::COMPLETIONS, tricks::completions()),
        (tricks::RESPONSES, tricks::responses()),
        (tricks::MESSAGES, tricks::messages()),
        (tricks::EMBEDDINGS, tricks::embeddings()),
        (tricks::IMAGES, tricks::image()),
    ];
    let front = Front::start(&["polyglot"]).await?;
    let key = "key-of-polyglot";
    // Down to less than any of the others needs.
    for words in (0..14).rev().map(|power| 1 << power) {
        let input = json!({"input": "word ".repeat(words)});
        let body = tricks::with(tricks::embeddings(), &input).to_string();
        front
            .call(tricks::EMBEDDINGS, key, &body, Leaves::Never)
            .await?;
    }
    for (path, body) in apis {
        let body = tricks::with(body, &json!({"stream": false})).to_string();
        let status = front.call(path, key, &body, Leaves::Never).await?;
        ensure!(status == 429, "{path}: {status}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_free_gives_nothing_that_is_not() -> Result<()> {
    let front = Front::start(&["counter"]).await?;
    let key = "key-of-counter";
    let more = json!({"stream": true, "max_output_tokens": 1_000, "n": 5});
    for (path, body) in [
        ("/openai/v1/responses/input_tokens", tricks::responses()),
        ("/v1/responses/input_tokens", tricks::responses()),
        ("/anthropic/v1/messages/count_tokens", tricks::messages()),
        ("/v1/messages/count_tokens", tricks::messages()),
        ("/v1/messages/count_tokens?beta=true", tricks::messages()),
    ] {
        for body in [body.clone(), tricks::with(body, &more)] {
            let url = format!("{}{path}", front.quickstart.gateway);
            let answer =
                http::post_json(&url, &[("api-key", key), VERSION], body.to_string()).await?;
            let said = answer.text();
            ensure!(
                answer.status == 200 && !said.contains("tundish is"),
                "{path}: {said}"
            );
        }
    }
    let gateway = &front.quickstart.gateway;
    for path in [
        "/v1/models",
        "/openai/v1/models/gpt-5",
        "/anthropic/v1/models",
    ] {
        let url = format!("{gateway}{path}");
        let answer = http::request(::http::Method::GET, &url, &[("api-key", key)], "").await?;
        ensure!(answer.status == 200, "{}", answer.text());
    }
    let sums = front.settled("counter").await?;
    ensure!(sums == Sums::default(), "{sums:?}");
    Ok(())
}
