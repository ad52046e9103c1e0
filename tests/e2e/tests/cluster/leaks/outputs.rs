//! What programs put out, collected.

use std::process::{Command, ExitStatus};

use anyhow::Result;
use http::Method;
use tests_support::http as calls;
use tests_support::leaks::Secrets;

/// Everything that was put out, with its origin.
#[derive(Default)]
pub(super) struct Outputs(Vec<(String, Vec<u8>)>);

impl Outputs {
    pub(super) fn add(&mut self, origin: impl Into<String>, output: impl Into<Vec<u8>>) {
        self.0.push((origin.into(), output.into()));
    }

    /// One call, with what came back.
    pub(super) async fn call(
        &mut self,
        url: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<u16> {
        let answer = calls::post_json(url, headers, body.to_owned()).await?;
        let text = format!("{:?}\n{}", answer.headers, answer.text());
        self.add(
            format!(
                "the answer {} of {url} to {headers:?} {body}",
                answer.status
            ),
            text,
        );
        Ok(answer.status)
    }

    /// A page. One that is not there is as good.
    pub(super) async fn page(&mut self, url: &str, headers: &[(&str, &str)]) -> Result<()> {
        let answer = calls::request(Method::GET, url, headers, "").await?;
        self.add(url, answer.body.to_vec());
        Ok(())
    }

    /// What a program says that ends by itself.
    pub(super) fn program(&mut self, command: &mut Command) -> Result<ExitStatus> {
        let output = command.output()?;
        self.add(
            format!("{:?}", command.get_program()),
            [output.stdout, output.stderr].concat(),
        );
        Ok(output.status)
    }

    /// All that leaks, with where.
    pub(super) fn leaks(&self, secrets: &Secrets) -> Vec<String> {
        let each = self.0.iter().flat_map(|(origin, output)| {
            let found = secrets.found_in(output).into_iter();
            found.map(move |leak| format!("{origin}: {leak}"))
        });
        each.collect()
    }

    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }
}
