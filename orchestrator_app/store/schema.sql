-- The log. Append-only: no row is ever updated or deleted. No secondary index and no foreign key: they cost at
-- every append. Column order is the field order of store/records.py; a test compares the two.

CREATE TABLE transition (
    seq BIGINT NOT NULL, unit VARCHAR NOT NULL, version INTEGER NOT NULL, from_status VARCHAR NOT NULL,
    trigger VARCHAR NOT NULL, to_status VARCHAR NOT NULL, phase VARCHAR NOT NULL, attempt INTEGER NOT NULL,
    actor VARCHAR NOT NULL, cause VARCHAR NOT NULL, reason VARCHAR, detail JSON NOT NULL, occurred_at TIMESTAMP NOT NULL
);

CREATE TABLE event (
    seq BIGINT NOT NULL, unit VARCHAR, attempt INTEGER, type VARCHAR NOT NULL, level VARCHAR NOT NULL,
    message VARCHAR NOT NULL, data JSON NOT NULL, pos BIGINT, actor VARCHAR NOT NULL, cause VARCHAR NOT NULL,
    occurred_at TIMESTAMP NOT NULL
);

CREATE TABLE attention_change (
    seq BIGINT NOT NULL, item BIGINT NOT NULL, unit VARCHAR NOT NULL, change VARCHAR NOT NULL, kind VARCHAR NOT NULL,
    severity VARCHAR NOT NULL, title VARCHAR NOT NULL, text VARCHAR NOT NULL, detail JSON NOT NULL,
    phase VARCHAR NOT NULL, attempt INTEGER NOT NULL, actor VARCHAR NOT NULL, cause VARCHAR NOT NULL,
    occurred_at TIMESTAMP NOT NULL
);

CREATE TABLE verdict (
    seq BIGINT NOT NULL, unit VARCHAR NOT NULL, other VARCHAR NOT NULL, verdict VARCHAR NOT NULL,
    reason VARCHAR NOT NULL, actor VARCHAR NOT NULL, cause VARCHAR NOT NULL, occurred_at TIMESTAMP NOT NULL
);

CREATE TABLE usage (
    seq BIGINT NOT NULL, unit VARCHAR NOT NULL, attempt INTEGER NOT NULL, phase VARCHAR NOT NULL,
    model VARCHAR NOT NULL, input_tokens BIGINT NOT NULL, output_tokens BIGINT NOT NULL, usd DOUBLE NOT NULL,
    occurred_at TIMESTAMP NOT NULL
);

CREATE TABLE session (
    seq BIGINT NOT NULL, unit VARCHAR NOT NULL, attempt INTEGER NOT NULL, phase VARCHAR NOT NULL,
    session VARCHAR NOT NULL, occurred_at TIMESTAMP NOT NULL
);

-- The state machine's moves, filled from states.py, so that illegal_move can be asked in SQL.
CREATE TABLE rule (from_status VARCHAR NOT NULL, trigger VARCHAR NOT NULL, to_status VARCHAR NOT NULL);

-- What the code that made this file was, so that a newer file is refused by older code. Whoever changes the format
-- raises store/soundness.py's FORMAT and adds the step from the one before, store/migration_N.sql.
CREATE TABLE meta (name VARCHAR NOT NULL, value VARCHAR NOT NULL);

-- Each unit now: its newest transition, and every field that any of its transitions gave it.
CREATE VIEW unit AS
SELECT unit AS name,
       arg_max(to_status, seq) AS status,
       arg_max(phase, seq) AS phase,
       arg_max(attempt, seq) AS attempt,
       max(version) AS version,
       max(occurred_at) FILTER (from_status <> to_status) AS since,
       min(occurred_at) AS created_at,
       arg_max(reason, seq) AS reason,
       arg_max_null(json_extract_string(detail, '$.set.workflow'), seq) FILTER (json_exists(detail, '$.set.workflow')) AS workflow,
       arg_max_null(json_extract_string(detail, '$.set.prompt'), seq) FILTER (json_exists(detail, '$.set.prompt')) AS prompt,
       arg_max_null(json_extract_string(detail, '$.set.agent'), seq) FILTER (json_exists(detail, '$.set.agent')) AS agent,
       coalesce(arg_max(json_extract(detail, '$.set.priority')::INTEGER, seq), 0) AS priority,
       coalesce(arg_max(from_json(json_extract(detail, '$.set.after'), '["VARCHAR"]'), seq), []) AS after,
       coalesce(arg_max(from_json(json_extract(detail, '$.set.labels'), '["VARCHAR"]'), seq), []) AS labels,
       coalesce(arg_max(from_json(json_extract(detail, '$.set.touches'), '["VARCHAR"]'), seq), []) AS touches
FROM transition
GROUP BY unit;

-- Every stay of a unit in a status; left_at and seconds are of the stay so far while it lasts. Never negative, though
-- the wall clock may be set back.
CREATE VIEW time_in_status AS
WITH stay AS (
    SELECT seq, unit, to_status AS status, phase, attempt, trigger, occurred_at AS entered_at,
           lead(occurred_at) OVER (PARTITION BY unit ORDER BY seq) AS left_at
    FROM transition
    WHERE from_status <> to_status
)
SELECT unit, status, phase, attempt, trigger AS entered_by, entered_at, left_at,
       greatest(0, coalesce(epoch(left_at), epoch(now())) - epoch(entered_at)) AS seconds, seq
FROM stay;

-- Every attempt: when it ran, how it ended (trigger), and how long it took. ended_at is NULL while it runs.
CREATE VIEW phase_duration AS
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

-- Units that became DONE, by minute.
CREATE VIEW throughput AS
SELECT date_trunc('minute', occurred_at) AS minute, count(*) AS done
FROM transition
WHERE to_status = 'DONE' AND from_status <> 'DONE'
GROUP BY 1
ORDER BY 1;

-- Each attention item as it stands.
CREATE VIEW attention AS
SELECT item AS id, min(unit) AS unit, arg_min(kind, seq) AS kind, arg_min(severity, seq) AS severity,
       arg_min(title, seq) AS title, arg_min(text, seq) AS text, arg_min(detail, seq) AS detail,
       arg_min(phase, seq) AS phase, arg_min(attempt, seq) AS attempt,
       min(occurred_at) AS opened_at,
       min(occurred_at) FILTER (change = 'seen') AS seen_at,
       max(occurred_at) FILTER (change = 'resolved') AS resolved_at,
       arg_max(actor, seq) FILTER (change = 'resolved') AS resolved_by,
       arg_max(text, seq) FILTER (change = 'resolved') AS resolution
FROM attention_change
GROUP BY item;

-- Always empty: a row that doesn't follow from the one before it in its unit's story.
CREATE VIEW broken_chain AS
SELECT *
FROM (
    SELECT seq, unit, version, from_status, trigger, to_status,
           lag(to_status, 1, 'NEW') OVER unit_order AS previous_status,
           lag(version, 1, 0) OVER unit_order AS previous_version,
           lag(attempt, 1, 0) OVER unit_order AS previous_attempt, attempt
    FROM transition
    WINDOW unit_order AS (PARTITION BY unit ORDER BY seq)
)
WHERE from_status <> previous_status OR version <> previous_version + 1 OR attempt < previous_attempt;

-- Always empty: a move that the state machine has no rule for.
CREATE VIEW illegal_move AS
SELECT transition.*
FROM transition
ANTI JOIN rule USING (from_status, trigger, to_status);

-- Always empty: a number that no row has, or more than one.
CREATE VIEW broken_numbering AS
WITH numbered AS (
    SELECT seq FROM transition UNION ALL SELECT seq FROM event UNION ALL SELECT seq FROM attention_change
    UNION ALL SELECT seq FROM verdict UNION ALL SELECT seq FROM usage UNION ALL SELECT seq FROM session
)
SELECT seq, previous
FROM (SELECT seq, lag(seq, 1, 0) OVER (ORDER BY seq) AS previous FROM numbered)
WHERE seq <> previous + 1;
