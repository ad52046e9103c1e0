use super::*;
use proxy_core::test_util::rule;

fn classes() -> Classes {
    let rules = Class::ALL.map(|class| proxy_core::table::Rule {
        class,
        ..rule("r", Vec::new())
    });
    Classes::of(&rules)
}

fn refused(overload: &Overload, class: Class, of: usize) -> usize {
    let admit = |_: &usize| overload.admit(class, classes()).is_err();
    (0..of).filter(admit).count()
}

#[test]
fn a_core_refuses_the_part_of_its_level_and_counts_it() {
    let mut registry = Registry::default();
    let shared = Overloads::new(&Refused::register(&mut registry));
    let overload = Overload::new(&shared);
    assert_eq!(refused(&overload, Class::Batch, 100), 0);
    overload.set(Level::new(ALL / 2), classes());
    assert_eq!(refused(&overload, Class::Batch, 100), 100);
    assert_eq!(refused(&overload, Class::Standard, 100), 50);
    assert_eq!(refused(&overload, Class::Interactive, 100), 0);
    let counts = shared.refused.0.each_ref().map(Counter::get);
    assert_eq!(counts, [100, 50, 0]);
    assert_eq!(shared.unsaid.load(Ordering::Relaxed), 150);
}

#[test]
fn a_refusal_says_when_to_come_again_and_keeps_the_connection() {
    let shared = Overloads::new(&Refused::register(&mut Registry::default()));
    let overload = Overload::new(&shared);
    overload.set(Level::new(ALL), classes());
    let refusal = overload.admit(Class::Batch, classes()).unwrap_err();
    assert_eq!(refusal.denial.code, Code::Overloaded);
    assert_eq!(refusal.wait, Some(Wait::Millis(5_000)));
    assert!(!refusal.close);
}

#[test]
fn lesser_classes_yield_on_all_cores_once_a_higher_one_does_on_one() {
    let shared = Overloads::new(&Refused::register(&mut Registry::default()));
    let [busy, idle] = [Overload::new(&shared), Overload::new(&shared)];
    busy.set(Level::new(ALL - 10), classes());
    idle.set(Level::default(), classes());
    assert_eq!(refused(&idle, Class::Batch, 10), 10);
    assert_eq!(refused(&idle, Class::Standard, 10), 10);
    assert_eq!(refused(&idle, Class::Interactive, 10), 0);
    busy.set(Level::default(), classes());
    idle.set(Level::default(), classes());
    assert_eq!(refused(&idle, Class::Batch, 10), 0);
}
