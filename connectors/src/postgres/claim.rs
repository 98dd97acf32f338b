//! Whose rows a database holds, and whether ours may join them.

use clickmill_schemas::RunId;
use tokio_postgres::Transaction;

use super::hours::HOURS_LOCK;
use super::link::{LOCK, Link, unavailable};
use super::values::{PgRun, integer};
use crate::RunInfo;
use crate::sink::{OnOtherRun, Refusal, SinkError};

const DOING: &str = "claim the database";

/// What to do about the runs that a database holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Claim {
    /// Ours is current, or there is none.
    GoOn,
    /// Rows of all other runs go.
    Replace,
    /// Ours becomes current beside the others.
    Beside,
    Refuse(RunId),
}

/// `held`: the runs, each with whether it is the current one.
fn decide(ours: RunId, held: &[(RunId, bool)], policy: OnOtherRun) -> Claim {
    let other = held.iter().filter(|(run, _)| *run != ours).max_by_key(|(_, current)| *current);
    let ours_is_current = held.contains(&(ours, true));
    match (other, policy) {
        (None, _) => Claim::GoOn,
        (Some(_), OnOtherRun::Replace) => Claim::Replace,
        (Some(_), _) if ours_is_current => Claim::GoOn,
        (Some(_), OnOtherRun::Keep) => Claim::Beside,
        (Some((run, _)), OnOtherRun::Refuse) => Claim::Refuse(*run),
    }
}

/// Makes our run the current one, where the policy allows it; whether it is. It is not yet where a run that it replaces still
/// is: readers keep that one until ours is complete.
///
/// # Errors
/// [`Refusal::OtherRun`], [`SinkError::Unavailable`].
pub async fn claim(link: &mut Link, run: &RunInfo, policy: OnOtherRun) -> Result<bool, SinkError> {
    let server = link.server.clone();
    let transaction = link.begin_setup().await?;
    transaction.execute(LOCK, &[]).await.map_err(unavailable(DOING))?;
    let rows = transaction
        .query("SELECT replace(run::text, '-', ''), is_current FROM realtime.runs", &[])
        .await
        .map_err(unavailable(DOING))?;
    let held: Vec<(RunId, bool)> =
        rows.iter().filter_map(|r| Some((r.get::<_, &str>(0).parse().ok()?, r.get(1)))).collect();
    let ours = PgRun(run.id);
    let (replaced, held): (Vec<_>, Vec<_>) = held.into_iter().partition(|(held, _)| run.replaced.contains(held));
    let mut is_current = !replaced.iter().any(|(_, current)| *current);
    match decide(run.id, &held, policy) {
        Claim::Refuse(held) => {
            return Err(Refusal::OtherRun { server, held, ours: run.id }.into());
        }
        Claim::Replace => {
            transaction.execute(HOURS_LOCK, &[]).await.map_err(unavailable(DOING))?;
            for table in ["window_partials", "stale_hours", "hourly_metrics", "runs"] {
                let delete = format!("DELETE FROM realtime.{table} WHERE run <> $1");
                run_all(&transaction, &[&delete], ours).await?;
            }
            is_current = true;
        }
        Claim::Beside => {
            run_all(&transaction, &["UPDATE realtime.runs SET is_current = false WHERE run <> $1"], ours).await?;
            is_current = true;
        }
        Claim::GoOn => {}
    }
    transaction
        .execute(
            "INSERT INTO realtime.runs AS r (run, topic, partitions, is_current) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (run) DO UPDATE SET topic = excluded.topic, is_current = excluded.is_current, \
             partitions = greatest(r.partitions, excluded.partitions) \
             WHERE (r.topic, r.is_current) IS DISTINCT FROM (excluded.topic, excluded.is_current) \
             OR r.partitions < excluded.partitions",
            &[&ours, &run.topic, &integer(run.partitions), &is_current],
        )
        .await
        .map_err(unavailable(DOING))?;
    transaction.commit().await.map_err(unavailable(DOING))?;
    Ok(is_current)
}

/// Lets readers take our run in the place of those that it replaces, within a transaction.
///
/// # Errors
/// [`SinkError::Unavailable`].
pub async fn change_over(transaction: &Transaction<'_>, run: &RunInfo) -> Result<(), SinkError> {
    let statements = [
        "UPDATE realtime.runs SET is_current = false WHERE is_current AND run <> $1",
        "UPDATE realtime.runs SET is_current = true WHERE run = $1",
    ];
    run_all(transaction, &statements, PgRun(run.id)).await?;
    transaction.execute(HOURS_LOCK, &[]).await.map_err(unavailable(DOING))?;
    for replaced in &run.replaced {
        for table in ["window_partials", "watermarks", "stale_hours", "hourly_metrics"] {
            let delete = format!("DELETE FROM realtime.{table} WHERE run = $1");
            run_all(transaction, &[&delete], PgRun(*replaced)).await?;
        }
    }
    Ok(())
}

async fn run_all(transaction: &Transaction<'_>, statements: &[&str], ours: PgRun) -> Result<(), SinkError> {
    for statement in statements {
        transaction.execute(*statement, &[&ours]).await.map_err(unavailable(DOING))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_runs_rows_stay_untouched_until_somebody_decides() {
        let (ours, other) = (RunId([1; 16]), RunId([2; 16]));
        use OnOtherRun::{Keep, Refuse, Replace};
        assert_eq!(decide(ours, &[], Refuse), Claim::GoOn);
        assert_eq!(decide(ours, &[(ours, true)], Refuse), Claim::GoOn);
        assert_eq!(decide(ours, &[(other, true)], Refuse), Claim::Refuse(other));
        assert_eq!(decide(ours, &[(other, true)], Replace), Claim::Replace);
        assert_eq!(decide(ours, &[(other, true)], Keep), Claim::Beside);
        // Kept beside: each start of ours goes on, and the other one's has to decide again.
        let both = [(ours, true), (other, false)];
        assert_eq!(decide(ours, &both, Refuse), Claim::GoOn);
        assert_eq!(decide(other, &both, Refuse), Claim::Refuse(ours));
        assert_eq!(decide(other, &both, Keep), Claim::Beside);
    }
}
