//! The metrics of governing: the configuration's file, budgets that run out, and whether the process keeps up.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

/// The configuration's file.
pub struct ConfigMetrics {
    loaded: Gauge,
    good: Gauge,
    is_good: AtomicBool,
    failures: Counter,
    lag: Gauge,
    /// Configurations that something still goes by.
    pub live: Gauge,
}

/// Budgets.
#[derive(Clone)]
pub struct BudgetMetrics {
    /// Accounts that came to 85 % of a budget.
    pub near: Counter,
    /// Accounts that came to its end.
    pub full: Counter,
}

impl ConfigMetrics {
    pub(super) fn new() -> ConfigMetrics {
        ConfigMetrics {
            loaded: gauge!("causeway_config_last_reload_success_timestamp_seconds"),
            good: gauge!("causeway_config_last_reload_successful"),
            is_good: AtomicBool::new(true),
            failures: counter!("causeway_config_reload_failures_total"),
            lag: gauge!("causeway_event_loop_lag_seconds"),
            live: gauge!("causeway_config_live"),
        }
    }

    /// Notes that the configuration was read and runs since `date`.
    pub fn reloaded(&self, date: SystemTime) {
        let since = date.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.loaded.set(since.as_secs_f64());
        self.good.set(1.0);
        self.is_good.store(true, Ordering::Relaxed);
    }

    /// Notes that the configuration was read and cannot run.
    pub fn failed(&self) {
        self.failures.increment(1);
        self.good.set(0.0);
        self.is_good.store(false, Ordering::Relaxed);
    }

    /// Whether the configuration could be used when it was read last.
    pub fn is_good(&self) -> bool {
        self.is_good.load(Ordering::Relaxed)
    }

    /// Publishes how late the event loop is.
    pub fn lag(&self, lag: Duration) {
        self.lag.set(lag.as_secs_f64());
    }
}

impl BudgetMetrics {
    pub(super) fn new() -> BudgetMetrics {
        let reached = |level: &'static str| counter!("causeway_budget_warnings_total", "level" => level);
        BudgetMetrics {
            near: reached("85"),
            full: reached("100"),
        }
    }
}

impl fmt::Debug for BudgetMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BudgetMetrics")
    }
}

pub(super) fn describe() {
    describe_gauge!(
        "causeway_config_last_reload_success_timestamp_seconds",
        "When the configuration that runs was read"
    );
    describe_gauge!(
        "causeway_config_last_reload_successful",
        "Whether the configuration could be used when it was read last"
    );
    describe_counter!(
        "causeway_config_reload_failures_total",
        "Times that a changed configuration could not be used"
    );
    describe_gauge!(
        "causeway_config_live",
        "Configurations that are in use: the one that runs, and those of what began before"
    );
    describe_gauge!("causeway_event_loop_lag_seconds", "How late timers fire");
    describe_counter!(
        "causeway_budget_warnings_total",
        "Accounts that came to this percentage of a budget"
    );
}
