-- Format 2: durations are never negative, also where the wall clock was set back between two moves of a unit.

CREATE OR REPLACE VIEW time_in_status AS
WITH stay AS (
    SELECT seq, unit, to_status AS status, phase, attempt, trigger, occurred_at AS entered_at,
           lead(occurred_at) OVER (PARTITION BY unit ORDER BY seq) AS left_at
    FROM transition
    WHERE from_status <> to_status
)
SELECT unit, status, phase, attempt, trigger AS entered_by, entered_at, left_at,
       greatest(0, coalesce(epoch(left_at), epoch(now())) - epoch(entered_at)) AS seconds, seq
FROM stay;

CREATE OR REPLACE VIEW phase_duration AS
WITH change AS (
    SELECT seq, unit, phase, attempt, trigger, occurred_at,
           lead(occurred_at) OVER unit_order AS ended_at,
           lead(trigger) OVER unit_order AS ended_by,
           lead(reason) OVER unit_order AS reason
    FROM transition
    WHERE from_status <> to_status
    WINDOW unit_order AS (PARTITION BY unit ORDER BY seq)
)
SELECT unit, phase, attempt, occurred_at AS started_at, ended_at, ended_by, reason,
       CASE WHEN ended_at IS NOT NULL THEN greatest(0, epoch(ended_at) - epoch(occurred_at)) END AS seconds, seq
FROM change
WHERE trigger IN ('start', 'continue');
