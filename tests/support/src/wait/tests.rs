use super::*;

#[tokio::test]
async fn the_value_is_returned_once_there_is_one() {
    let mut asked = 0;
    let value = eventually("three questions", Duration::from_secs(5), async || {
        asked += 1;
        (asked == 3).then_some("here")
    })
    .await
    .unwrap();
    assert_eq!((value, asked), ("here", 3));
}

#[tokio::test]
async fn the_error_names_the_wait_and_the_last_reason() {
    let error = eventually_ok::<()>("the moon", Duration::from_millis(20), async || {
        bail!("cloudy")
    })
    .await
    .unwrap_err();
    assert_eq!(error.to_string(), "waited 20ms for the moon: cloudy");
}

#[tokio::test]
async fn a_hanging_probe_ends() {
    let error = eventually::<()>("an answer", Duration::from_millis(20), std::future::pending)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "waited 20ms for an answer: the probe never answered"
    );
}
