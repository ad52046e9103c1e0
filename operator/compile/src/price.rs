//! The price of a deployment.

use std::sync::Arc;

use proxy_core::tokens::{LongContext, Price, Rates, context_window};

use crate::bounds::{MAX_SAFE_INTEGER, duplicate, is_model};
use crate::diagnostic::Findings;

/// Most models behind one router; the schema has the same bound.
const MAX_ROUTED: usize = 32;

/// The price of a deployment of `model`, declared at `field`.
pub(crate) fn compile(
    declared: &crds::Price,
    model: &str,
    field: &str,
    findings: &mut Findings,
) -> Arc<Price> {
    let mut reader = Reader { findings };
    let rates = Rates {
        second: reader.optional(declared.per_second, 0, field, "perSecond"),
        ..reader.rates(&Classes::of(declared), field)
    };
    let long_context = declared.long_context.as_ref().map(|long| {
        let field = format!("{field}.longContext");
        reader.long_context(long, rates, model, &field)
    });
    let routed = declared.routed.iter().enumerate().map(|(i, routed)| {
        let field = format!("{field}.routed[{i}]");
        if !is_model(&routed.model) {
            let message =
                "must be 1 to 128 letters, digits and '._:/@+-', as answers name the model";
            reader.findings.invalid(format!("{field}.model"), message);
        }
        let rates = reader.rates(&Classes::of_routed(routed), &field);
        (routed.model.as_str().into(), rates)
    });
    let routed = routed.collect();
    if let Some((i, name)) = duplicate(declared.routed.iter().map(|one| one.model.as_str())) {
        let message = format!("{name:?} is there twice; remove one");
        findings.invalid(format!("{field}.routed[{i}].model"), message);
    }
    if declared.routed.len() > MAX_ROUTED {
        let message = format!("has more than {MAX_ROUTED} models; remove those that are not used");
        findings.invalid(format!("{field}.routed"), message);
    }
    Arc::new(Price {
        rates,
        long_context,
        routed,
    })
}

/// The classes of text, sound and images, as several objects declare them.
struct Classes {
    input: i64,
    cached_input: Option<i64>,
    cache_write: Option<i64>,
    output: i64,
    audio_input: Option<i64>,
    audio_output: Option<i64>,
    image_input: Option<i64>,
    image_output: Option<i64>,
}

struct Reader<'f> {
    findings: &'f mut Findings,
}

impl Classes {
    const fn of(declared: &crds::Price) -> Self {
        Self {
            input: declared.input_per_million,
            cached_input: declared.cached_input_per_million,
            cache_write: declared.cache_write_per_million,
            output: declared.output_per_million,
            audio_input: declared.audio_input_per_million,
            audio_output: declared.audio_output_per_million,
            image_input: declared.image_input_per_million,
            image_output: declared.image_output_per_million,
        }
    }

    const fn of_routed(declared: &crds::RoutedPrice) -> Self {
        Self {
            input: declared.input_per_million,
            cached_input: declared.cached_input_per_million,
            cache_write: declared.cache_write_per_million,
            output: declared.output_per_million,
            audio_input: declared.audio_input_per_million,
            audio_output: declared.audio_output_per_million,
            image_input: declared.image_input_per_million,
            image_output: declared.image_output_per_million,
        }
    }
}

impl Reader<'_> {
    fn rates(&mut self, declared: &Classes, field: &str) -> Rates {
        let input = self.amount(declared.input, field, "inputPerMillion");
        let output = self.amount(declared.output, field, "outputPerMillion");
        let mut class = |micros, text, name| self.optional(micros, text, field, name);
        Rates {
            input,
            cached_input: class(declared.cached_input, input, "cachedInputPerMillion"),
            cache_write: class(declared.cache_write, input, "cacheWritePerMillion"),
            audio_input: class(declared.audio_input, input, "audioInputPerMillion"),
            image_input: class(declared.image_input, input, "imageInputPerMillion"),
            output,
            audio_output: class(declared.audio_output, output, "audioOutputPerMillion"),
            image_output: class(declared.image_output, output, "imageOutputPerMillion"),
            second: 0,
        }
    }

    /// Classes that it does not list cost the dearer of the usual price and its own text: a longer
    /// input makes nothing cheaper.
    fn long_context(
        &mut self,
        declared: &crds::LongContext,
        usual: Rates,
        model: &str,
        field: &str,
    ) -> LongContext {
        let above = u64::try_from(declared.above_input_tokens).unwrap_or(0);
        if above == 0 {
            let message = "must be at least 1; for one price for every input remove longContext";
            self.findings
                .invalid(format!("{field}.aboveInputTokens"), message);
        }
        if let Some(window) = context_window(model).filter(|window| above >= *window) {
            let message = format!(
                "is {above}, and {model} takes at most {window} tokens, so these prices never hold; \
                 lower it, or remove longContext"
            );
            self.findings
                .note(format!("{field}.aboveInputTokens"), message);
        }
        let input = self.amount(declared.input_per_million, field, "inputPerMillion");
        let output = self.amount(declared.output_per_million, field, "outputPerMillion");
        let cached = declared.cached_input_per_million;
        let written = declared.cache_write_per_million;
        LongContext {
            above_input_tokens: above,
            rates: Rates {
                cached_input: self.optional(cached, input, field, "cachedInputPerMillion"),
                cache_write: self.optional(written, input, field, "cacheWritePerMillion"),
                audio_input: usual.audio_input.max(input),
                image_input: usual.image_input.max(input),
                audio_output: usual.audio_output.max(output),
                image_output: usual.image_output.max(output),
                second: usual.second,
                ..Rates::of_text(input, output)
            },
        }
    }

    fn optional(&mut self, micros: Option<i64>, text: u64, field: &str, name: &str) -> u64 {
        micros.map_or(text, |micros| self.amount(micros, field, name))
    }

    fn amount(&mut self, micros: i64, field: &str, name: &str) -> u64 {
        let amount = u64::try_from(micros).unwrap_or_else(|_negative| {
            let message = "must not be negative; write 0 if it costs nothing";
            self.findings.invalid(format!("{field}.{name}"), message);
            0
        });
        if micros > MAX_SAFE_INTEGER {
            let message = "must not be above 9007199254740991; it is in millionths of the currency";
            self.findings.invalid(format!("{field}.{name}"), message);
        }
        amount
    }
}
