use std::time::Duration;

use clap::Parser as _;

use crate::{
    Args, Capacity, Classes, Config, DeploymentConfig, InvalidDeployment,
    config::DEFAULT_DEPLOYMENTS,
};

fn args(more: &[&str]) -> Result<Args, clap::Error> {
    Args::try_parse_from([&["foundry-sim"], more].concat())
}

fn config(more: &[&str]) -> Config {
    Config::try_from(args(more).unwrap()).unwrap()
}

#[test]
fn defaults_are_the_librarys_but_for_the_port() {
    let config = config(&[]);
    assert_eq!(config.listen.to_string(), "127.0.0.1:8082");
    let library = Config {
        listen: config.listen,
        ..Config::default()
    };
    assert_eq!(format!("{config:?}"), format!("{library:?}"));
    assert_eq!(
        config.deployments.len(),
        DEFAULT_DEPLOYMENTS.len(),
        "none is refused"
    );
}

#[test]
fn reads_every_flag() {
    let config = config(&[
        "--api-key=a",
        "--api-key=b",
        "--deployment=x,tpm=1000",
        "--deployment=y=m,ptu=3",
        "--latency=300ms",
        "--token-interval=250us",
        "--completion-tokens=5",
        "--threads=2",
        "--record=0",
        "--request-window=10s",
        "--region=West",
        "--listen=127.0.0.1:0",
    ]);
    assert_eq!(config.api_keys, ["a", "b"]);
    assert_eq!(config.deployments[1].model, "m");
    assert_eq!(config.latency, Duration::from_millis(300));
    assert_eq!(config.token_interval, Duration::from_micros(250));
    assert_eq!(
        (
            config.completion_tokens,
            config.threads.get(),
            config.record
        ),
        (5, 2, 0)
    );
    assert_eq!(config.request_window, Duration::from_secs(10));
    assert_eq!(config.region, "West");
}

#[test]
fn every_flag_has_its_variable() {
    let command = <Args as clap::CommandFactory>::command();
    for argument in command.get_arguments().filter(|a| !a.is_global_set()) {
        let flag = argument.get_long().unwrap();
        let expect = format!("TUNDISH_SIM_{}", flag.replace('-', "_").to_uppercase());
        let variable = argument.get_env().map(|name| name.to_str().unwrap());
        assert_eq!(variable, Some(expect.as_str()), "--{flag}");
    }
}

#[test]
fn reads_a_deployments_capacity() {
    let check = |text: &str, capacity| {
        let deployment: DeploymentConfig = text.parse().unwrap();
        assert_eq!(deployment.capacity, capacity, "{text}");
    };
    let standard = |tokens, requests| Capacity::Standard { tokens, requests };
    check("d", Capacity::Unlimited);
    check("d,tpm=10000", standard(Some(10_000), Some(60)));
    check("d,tpm=999", standard(Some(999), None));
    check("d,tpm=10,rpm=7", standard(Some(10), Some(7)));
    check("d,rpm=7", standard(None, Some(7)));
    check("d,ptu=2", Capacity::Provisioned { units: 2 });
}

#[test]
fn reads_a_deployments_classes() {
    let text = "d=m,tpm=5,cached=1,cache_write=2,reasoning=3,audio=4";
    let deployment: DeploymentConfig = text.parse().unwrap();
    let expect = Classes {
        cached: 1,
        cache_write: 2,
        reasoning: 3,
        audio: 4,
    };
    assert_eq!(deployment.classes, expect);
}

#[test]
fn refuses_wrong_arguments() {
    let wrong = |text: &str| text.parse::<DeploymentConfig>().unwrap_err();
    assert!(matches!(wrong(""), InvalidDeployment::Name(_)));
    assert!(matches!(wrong("a\"b"), InvalidDeployment::Name(_)));
    assert!(matches!(wrong("d,tpm=0"), InvalidDeployment::Setting(_)));
    assert!(matches!(wrong("d,cpu=1"), InvalidDeployment::Setting(_)));
    assert_eq!(wrong("d,ptu=1,tpm=1"), InvalidDeployment::MixedCapacity);
    for flag in [
        "--latency=5",
        "--latency=fast",
        "--threads=0",
        "--completion-tokens=0",
        "--x",
    ] {
        assert!(args(&[flag]).is_err(), "{flag}");
    }
    let together = args(&["--api-key=", "--deployment=d", "--deployment=d"]).unwrap();
    let problems = Config::try_from(together).unwrap_err().to_string();
    assert!(
        problems.contains("--api-key") && problems.contains("given twice"),
        "{problems}"
    );
}
