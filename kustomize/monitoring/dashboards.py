"""The dashboards in grafana/dashboards, and the rules for the operator: `make monitoring` writes both anew.

A panel is one call here, and so all have the same units, colours and legends. Grafana reads the JSON, and
Prometheus' operator prometheusrule.yaml; a Prometheus without it reads rules/ itself.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]

_HERE = Path(__file__).parent
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_GREEN, _YELLOW, _ORANGE, _RED, _BLUE, _GREY = "green", "yellow", "orange", "red", "blue", "text"
# What is given this name has this colour everywhere.
_COLOURS = {
    "wait": _ORANGE,
    "decode": "purple",
    "run": _BLUE,
    "encode": "semi-dark-green",
    "p50": _GREEN,
    "p95": _ORANGE,
    "p99": _RED,
    "low": _GREEN,
    "medium": _ORANGE,
    "high": _RED,
    "critical": "dark-red",
    "untold": _GREY,
    "none": _GREEN,
    "moderate": _ORANGE,
    "great": _RED,
    "limit": _RED,
}
_LEVELS = {-1: "untold", 0: "none", 1: "moderate", 2: "great"}

# What `model_...` tells besides the metrics of manifests.
_NOT_QUALITY = ("info", "ready", "created_timestamp_seconds", "age_seconds", "score_.+")

# What the variables choose, as it stands in a query.
_CALLS = 'namespace=~"$namespace", job=~"$job"'
_MODEL = 'namespace=~"$namespace", model=~"$model", version=~"$version"'
_PODS = 'namespace=~"$namespace", pod=~"$job-.+", container="server"'
_API = f'{_CALLS}, grpc_service=~"(forest[.]v1|inference)[.].+"'
_PREDICTIONS = f'{_CALLS}, grpc_method=~"Predict|PredictBatch|ModelInfer"'


def query(expression: str, legend: str = "", *, instant: bool = False, form: str = "time_series") -> Json:
    """Return what a panel asks: an expression, and what each series is called."""
    return {
        "datasource": _SOURCE,
        "expr": expression,
        "legendFormat": legend,
        "format": form,
        "instant": instant,
        "range": not instant,
    }


def panel(
    kind: str,
    title: str,
    description: str,
    queries: Json | Sequence[Json],
    unit: str,
    *,
    width: int = 12,
    height: int = 8,
    steps: Sequence[tuple[float | None, str]] = (),
    options: Json | None = None,
    **defaults: Any,
) -> Json:
    """Return a panel that has no place yet.

    Parameters
    ----------
    unit
        As Grafana calls it.
    width, height
        Of 24 columns; in rows of 30 pixels.
    steps
        From which value on there is which colour.
    defaults
        What else holds for every field.
    """
    queries = [queries] if isinstance(queries, dict) else list(queries)
    fields: Json = {"unit": unit, **defaults}
    if steps:
        fields["thresholds"] = {
            "mode": "absolute",
            "steps": [{"value": value, "color": colour} for value, colour in steps],
        }
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": _SOURCE,
        "gridPos": {"w": width, "h": height},
        "fieldConfig": {"defaults": fields, "overrides": []},
        "options": options or {},
        "targets": [each | {"refId": chr(ord("A") + number)} for number, each in enumerate(queries)],
    }


def lines(
    title: str,
    description: str,
    queries: Json | Sequence[Json],
    unit: str,
    *,
    stacked: bool = False,
    steps: Sequence[tuple[float | None, str]] = (),
    **rest: Any,
) -> Json:
    """Return a panel of values over time; a step is drawn as a line across."""
    made = panel(
        "timeseries",
        title,
        description,
        queries,
        unit,
        steps=steps,
        min=0,
        color={"mode": "palette-classic-by-name"},
        custom={
            "lineWidth": 1,
            "fillOpacity": 60 if stacked else 8,
            "showPoints": "never",
            "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if steps else "off"},
        },
        options={
            "legend": {
                "showLegend": True,
                "displayMode": "table",
                "placement": "right",
                "calcs": ["lastNotNull", "max"],
                "sortBy": "Last *",
                "sortDesc": True,
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        **rest,
    )
    made["fieldConfig"]["overrides"] = [
        {
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
        }
        for name, colour in _COLOURS.items()
        if name in {each["legendFormat"] for each in made["targets"]} | _valued(made["targets"])
    ]
    return made


def _valued(targets: Sequence[Json]) -> set[str]:
    """Return the names that legends made of a label may have."""
    legends = {each["legendFormat"] for each in targets}
    values = {
        "{{phase}}": ("wait", "decode", "run", "encode"),
        "{{risk_level}}": ("low", "medium", "high", "critical"),
    }
    return {value for legend in legends for value in values.get(legend, ())}


def figure(
    title: str,
    description: str,
    expression: str,
    unit: str,
    *,
    steps: Sequence[tuple[float | None, str]] = ((None, _BLUE),),
    **rest: Any,
) -> Json:
    """Return a panel of one figure, of now."""
    return panel(
        "stat",
        title,
        description,
        query(expression, instant=True),
        unit,
        steps=steps,
        width=4,
        height=4,
        color={"mode": "thresholds"},
        options={"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "none"},
        **rest,
    )


def table(title: str, description: str, expression: str, names: Mapping[str, str], **rest: Any) -> Json:
    """Return a table of the labels that `names` calls by another name; an empty one is left out."""
    made = panel("table", title, description, query(expression, instant=True, form="table"), "short", **rest)
    made["transformations"] = [
        {
            "id": "organize",
            "options": {
                "excludeByName": {name: True for name in ("Time", *names) if not names.get(name)},
                "indexByName": {name: place for place, name in enumerate(names)},
                "renameByName": {name: text for name, text in names.items() if text},
            },
        }
    ]
    return made


def _objective(failures: str, of: str) -> str:
    """Return the share of bad ones over the range shown, by recorded rates."""
    bad, everything = (
        f"sum(sum_over_time(grpc_service:forest_{each}:rate5m{{{_CALLS}}}[$__range]))"
        for each in (failures, of)
    )
    return f"{bad} / {everything}"


def _quantiles(metric: str, labels: str) -> list[Json]:
    return [
        query(
            f"histogram_quantile({percent / 100:g}, sum by (le) "
            f"(rate({metric}_bucket{{{labels}}}[$__rate_interval])))",
            f"p{percent}",
        )
        for percent in (50, 95, 99)
    ]


def _burn(title: str, description: str, metric: str, budget: float) -> Json:
    return lines(
        title,
        description,
        [
            query(f"max(grpc_service:forest_{metric}:ratio_rate{window}{{{_CALLS}}}) / {budget}", window)
            for window in ("5m", "1h", "6h", "3d")
        ],
        "short",
        steps=[(None, "transparent"), (1, _YELLOW), (6, _ORANGE), (14.4, _RED)],
    )


def service() -> Iterator[Json]:
    """Yield how calls go."""
    share = [(None, _RED), (0.99, _ORANGE), (0.999, _GREEN)]
    left = [(None, _RED), (0, _ORANGE), (0.25, _GREEN)]
    failed, slow = _objective("failures", "calls"), _objective("slow_predictions", "predictions")
    yield figure(
        "Availability",
        "Calls with one answer that did not fail by the server's fault, over the range shown. "
        "Promised: 99.9 %.",
        f"1 - {failed}",
        "percentunit",
        steps=share,
        decimals=3,
    )
    yield figure(
        "Error budget left: failures",
        "What is left of the one call in a thousand that may fail, if the range shown is the whole period. "
        "Below zero the promise is broken: show 30 days.",
        f"1 - {failed} / 0.001",
        "percentunit",
        steps=left,
        decimals=1,
    )
    yield figure(
        "Within 100 ms",
        "Predictions by Predict, PredictBatch and ModelInfer that took at most 100 ms in the server, "
        "over the "
        "range shown. Promised: 99 %.",
        f"1 - {slow}",
        "percentunit",
        steps=[(None, _RED), (0.98, _ORANGE), (0.99, _GREEN)],
        decimals=2,
    )
    yield figure(
        "Error budget left: latency",
        "What is left of the one prediction in a hundred that may take longer, as beside.",
        f"1 - {slow} / 0.01",
        "percentunit",
        steps=left,
        decimals=1,
    )
    yield figure(
        "Calls",
        "Calls of the API that ended, a second.",
        f"sum(rate(grpc_server_handled_total{{{_API}}}[$__rate_interval]))",
        "reqps",
    )
    yield figure(
        "Servers that serve",
        "Those whose readiness is SERVING.",
        f"sum(forest_serving{{{_CALLS}}})",
        "short",
        steps=[(None, _RED), (1, _GREEN)],
        decimals=0,
    )
    yield lines(
        "Calls by method",
        "Calls that ended, a second. A method that was never called is left out.",
        query(
            f"sum by (grpc_method) (rate(grpc_server_handled_total{{{_API}}}[$__rate_interval]))"
            f" and sum by (grpc_method) (grpc_server_handled_total{{{_API}}}) > 0",
            "{{grpc_method}}",
        ),
        "reqps",
        stacked=True,
    )
    yield lines(
        "Errors by code",
        "Calls that ended with another status than OK, a second. InvalidArgument, NotFound, "
        "Unauthenticated and "
        "the like are the caller's; a stream ends with Unavailable when its connection has come of age.",
        query(
            f"sum by (grpc_code) (rate(grpc_server_handled_total{{{_API}, "
            f'grpc_code!="OK"}}[$__rate_interval]))',
            "{{grpc_code}}",
        ),
        "reqps",
        stacked=True,
    )
    yield lines(
        "Latency of predictions",
        "How long Predict, PredictBatch and ModelInfer took in the server, from a call's arrival to its end.",
        _quantiles("grpc_server_handling_seconds", _PREDICTIONS),
        "s",
        steps=[(None, "transparent"), (0.1, _RED)],
    )
    yield lines(
        "Latency by method: p99",
        "The same by method. A stream lasts as long as its client lets it, and is left out.",
        query(
            "histogram_quantile(0.99, sum by (grpc_method, le) (rate(grpc_server_handling_seconds_bucket"
            f'{{{_API}, grpc_type="unary"}}[$__rate_interval]))) > 0',
            "{{grpc_method}}",
        ),
        "s",
    )
    phases = "forest_call_phase_seconds"
    yield lines(
        "Where the time goes: mean",
        "Phases of calls and messages that scored rows, in the mean: wait to be read or for one's "
        "turn, decode "
        "and check, run the forest, encode the answer.",
        query(
            f"sum by (phase) (rate({phases}_sum{{{_CALLS}}}[$__rate_interval]))"
            f" / sum by (phase) (rate({phases}_count{{{_CALLS}}}[$__rate_interval]))",
            "{{phase}}",
        ),
        "s",
        stacked=True,
    )
    yield lines(
        "Where the time goes: p99",
        "The same phases, each one's 99th percentile: these do not add up.",
        query(
            f"histogram_quantile(0.99, sum by (phase, le) "
            f"(rate({phases}_bucket{{{_CALLS}}}[$__rate_interval])))",
            "{{phase}}",
        ),
        "s",
    )
    yield lines(
        "Rows in flight",
        "Rows of batches, tensors and messages with many rows, from their arrival to their answer. "
        "Beyond the "
        "limit, which is that of all workers together, they are refused with ResourceExhausted.",
        [
            query(f"max by (instance) (forest_rows_in_flight{{{_CALLS}}})", "{{instance}}"),
            query(f"max(forest_rows_in_flight_limit{{{_CALLS}}} * forest_workers)", "limit"),
        ],
        "short",
    )
    yield lines(
        "Messages of streams",
        "What came and what was answered, a second.",
        [
            query(
                f'sum(rate(grpc_server_msg_{each}_total{{{_API}, grpc_type!="unary"}}[$__rate_interval]))',
                each,
            )
            for each in ("received", "sent")
        ],
        "cps",
    )
    yield _burn(
        "Burn rate: failures",
        "How many times as fast as the promise allows failures come, of the worst service: at 1 the "
        "budget of a "
        "month lasts a month. A page at 14.4 (1 h and 5 m) or 6 (6 h and 30 m), a ticket at 3 (1 d) "
        "or 1 (3 d).",
        "failures",
        0.001,
    )
    yield _burn(
        "Burn rate: latency",
        "The same of predictions that took longer than 100 ms, of which one in a hundred is allowed.",
        "slow_predictions",
        0.01,
    )


def model() -> Iterator[Json]:
    """Yield what models say, and which they are."""
    high = f'{_MODEL}, risk_level=~"high|critical"'
    yield figure(
        "High risk",
        "Rows classified as of high or critical risk, over the range shown. Regressions have no risk.",
        f"sum(increase(predictions_total{{{high}}}[$__range]))",
        "short",
        steps=[(None, _RED)],
        decimals=0,
    )
    yield figure(
        "Share of high risk",
        "Of all rows classified over the range shown.",
        f"sum(increase(predictions_total{{{high}}}[$__range]))"
        f" / sum(increase(predictions_total{{{_MODEL}}}[$__range]))",
        "percentunit",
        decimals=2,
    )
    yield figure(
        "Rows",
        "Rows scored, a second.",
        f"sum(rate(forest_rows_total{{{_MODEL}}}[$__rate_interval]))",
        "cps",
    )
    yield figure(
        "Models served",
        "Versions that at least one server serves.",
        f"sum(max by (namespace, model, version) (model_ready{{{_MODEL}}}))",
        "short",
        decimals=0,
    )
    yield figure(
        "Versions refused",
        "Versions whose bundle failed a check in at least one server: its log, and ModelService, say why.",
        f"sum(1 - min by (namespace, model, version) (model_ready{{{_MODEL}}}))",
        "short",
        steps=[(None, _GREEN), (1, _RED)],
        decimals=0,
    )
    yield figure(
        "Age of the oldest",
        "Since its bundle was made. Of each model its newest version counts. A ticket at 180 days.",
        f"max(min by (namespace, model) (model_age_seconds{{{_MODEL}}}))",
        "s",
        steps=[(None, _GREEN), (150 * 86400, _ORANGE), (180 * 86400, _RED)],
        decimals=0,
    )
    yield lines(
        "Predictions by label",
        "Rows classified, a second, by what they were called.",
        query(
            f"sum by (model, label) (rate(predictions_total{{{_MODEL}}}[$__rate_interval]))",
            "{{model}}: {{label}}",
        ),
        "cps",
        stacked=True,
    )
    yield lines(
        "Predictions by risk level",
        "Rows classified, a second, by the model's levels of risk.",
        query(
            f"sum by (risk_level) (rate(predictions_total{{{_MODEL}}}[$__rate_interval]))", "{{risk_level}}"
        ),
        "cps",
        stacked=True,
    )
    yield lines(
        "Share of high risk by model",
        "Of the rows that each model classified.",
        query(
            f"sum by (model) (rate(predictions_total{{{high}}}[$__rate_interval]))"
            f" / sum by (model) (rate(predictions_total{{{_MODEL}}}[$__rate_interval]))",
            "{{model}}",
        ),
        "percentunit",
    )
    yield lines(
        "Rows by model",
        "Rows scored, a second.",
        query(f"sum by (model) (rate(forest_rows_total{{{_MODEL}}}[$__rate_interval]))", "{{model}}"),
        "cps",
        stacked=True,
    )
    yield table(
        "Quality",
        "What each version did on its test part when it was made: the metrics of its manifest.",
        "max by (namespace, model, version, metric) (label_replace("
        f'{{{_MODEL}, job=~"(.+-)?forest", __name__=~"model_.+", '
        f'__name__!~"model_({"|".join(_NOT_QUALITY)})"}}, '
        '"metric", "$1", "__name__", "model_(.+)"))',
        {
            "namespace": "Namespace",
            "model": "Model",
            "version": "Version",
            "metric": "Metric",
            "Value": "On the test part",
        },
        decimals=3,
    )
    yield table(
        "Versions",
        "Which bundles are where, by their digest: that of the manifest, which lists the digest of "
        "every file.",
        f"count by (namespace, model, version, digest, task) (model_info{{{_MODEL}}})",
        {
            "namespace": "Namespace",
            "model": "Model",
            "version": "Version",
            "task": "Task",
            "digest": "Digest",
            "Value": "Servers",
        },
    )
    yield lines(
        "Servers by version",
        "How many servers serve which version: in a rollout one goes up while the other goes down.",
        query(f"sum by (model, version) (model_ready{{{_MODEL}}})", "{{model}} {{version}}"),
        "short",
        stacked=True,
        decimals=0,
    )
    yield lines(
        "Age",
        "Since the bundle was made.",
        query(f"max by (model, version) (model_age_seconds{{{_MODEL}}})", "{{model}} {{version}}"),
        "s",
    )
    heat = panel(
        "heatmap",
        "Scores of $model",
        "How often which score came: a classification's probability, a regression's value.",
        query(
            f"sum by (le) (increase(model_score_bucket{{{_MODEL}}}[$__rate_interval]))",
            "{{le}}",
            form="heatmap",
        ),
        "short",
        width=24,
        options={
            "calculate": False,
            "cellGap": 1,
            "color": {
                "mode": "scheme",
                "scheme": "Blues",
                "steps": 64,
                "exponent": 0.5,
                "scale": "exponential",
            },
            "filterValues": {"le": 1e-9},
            "legend": {"show": True},
            "rowsFrame": {"layout": "auto"},
            "tooltip": {"mode": "single", "yHistogram": False},
            "yAxis": {"axisPlacement": "left", "unit": "short"},
        },
    )
    # Models have scores of their own, and so bounds: one panel for each that is chosen.
    yield heat | {"repeat": "model", "repeatDirection": "h", "maxPerRow": 2}


def drift() -> Iterator[Json]:
    """Yield whether what comes is like what models were trained on."""
    steps = [(None, "transparent"), (0.1, _ORANGE), (0.25, _RED)]
    found = f"max by (model, version, feature) (data_drift_score{{{_MODEL}}})"
    yield panel(
        "state-timeline",
        "Level",
        "The greatest level of any feature, and that of the score: none, moderate or great beyond "
        "what chance does, "
        "or untold while there are too few rows. A ticket when most servers find it great for half an hour.",
        [
            query(
                f'max by (model, version) (data_drift_level{{{_MODEL}, feature{equal}"score"}})',
                "{{model}} {{version}}: " + name,
            )
            for equal, name in (("!=", "features"), ("=", "score"))
        ],
        "short",
        width=16,
        mappings=[
            {
                "type": "value",
                "options": {
                    str(level): {"text": name, "color": _COLOURS[name], "index": place}
                    for place, (level, name) in enumerate(_LEVELS.items())
                },
            }
        ],
        custom={"fillOpacity": 70, "lineWidth": 0},
        options={"mergeValues": True, "showValue": "auto", "legend": {"showLegend": False}},
    )
    yield lines(
        "Features by level",
        "How many features, the score among them, have which level, over all servers chosen.",
        [
            query(f"sum(data_drift_level{{{_MODEL}}} == bool {level})", name)
            for level, name in reversed(_LEVELS.items())
        ],
        "short",
        stacked=True,
        width=8,
        decimals=0,
    )
    yield lines(
        "Population stability index by feature",
        "Against the training part; `score` is the score, against the test part. 0.1 is worth a look "
        "and 0.25 is "
        "great, where it is more than chance: see Level.",
        query(found, "{{model}} {{feature}}"),
        "short",
        width=16,
        height=12,
        steps=steps,
        decimals=3,
    )
    yield panel(
        "bargauge",
        "Greatest now",
        "The ten greatest of them.",
        query(f"topk(10, {found})", "{{model}} {{feature}}", instant=True),
        "short",
        width=8,
        height=12,
        steps=[(None, _GREEN), (0.1, _ORANGE), (0.25, _RED)],
        min=0,
        decimals=3,
        color={"mode": "thresholds"},
        options={
            "orientation": "horizontal",
            "displayMode": "basic",
            "reduceOptions": {"calcs": ["lastNotNull"]},
        },
    )
    yield lines(
        "Distance of categories and flags",
        "Jensen-Shannon distance: 0 for equal shares, 1 for shares that have no value in common. "
        "0.13 is worth a "
        "look, and 0.21 is great, where it is more than chance.",
        query(f"max by (model, version, feature) (data_drift_distance{{{_MODEL}}})", "{{model}} {{feature}}"),
        "short",
        steps=[(None, "transparent"), (0.13, _ORANGE), (0.21, _RED)],
        decimals=3,
    )
    yield lines(
        "Rows in the window",
        "How many rows of a server the index is of: of few, chance makes a great one, and the level "
        "is untold.",
        query(
            f"min by (model, version) (data_drift_rows{{{_MODEL}}})",
            "{{model}} {{version}}",
        ),
        "short",
        decimals=0,
    )


def capacity() -> Iterator[Json]:
    """Yield what servers use of what they have."""
    yield figure(
        "Servers reached",
        "Servers whose metrics Prometheus can read.",
        f"sum(up{{{_CALLS}}})",
        "short",
        steps=[(None, _RED), (1, _GREEN)],
        decimals=0,
    )
    yield figure(
        "Workers",
        "Processes that serve, of all servers.",
        f"sum(forest_workers{{{_CALLS}}})",
        "short",
        decimals=0,
    )
    yield figure(
        "Workers that ended",
        "By themselves, over the range shown.",
        f"sum(increase(forest_worker_ends_total{{{_CALLS}}}[$__range]))",
        "short",
        steps=[(None, _GREEN), (1, _RED)],
        decimals=0,
    )
    yield figure(
        "Audit records dropped",
        "By a best-effort audit log, over the range shown.",
        f"sum(increase(forest_audit_dropped_total{{{_CALLS}}}[$__range]))",
        "short",
        steps=[(None, _GREEN), (1, _RED)],
        decimals=0,
    )
    yield figure(
        "Audit writes that failed",
        "Over the range shown.",
        f"sum(increase(forest_audit_failures_total{{{_CALLS}}}[$__range]))",
        "short",
        steps=[(None, _GREEN), (1, _RED)],
        decimals=0,
    )
    yield figure(
        "Next certificate expires in",
        "Of servers that speak TLS themselves. A ticket at 14 days, a page at 3.",
        f"min(forest_certificate_expiry_timestamp_seconds{{{_CALLS}}}) - time()",
        "s",
        steps=[(None, _RED), (3 * 86400, _ORANGE), (14 * 86400, _GREEN)],
    )
    yield lines(
        "Memory by pod",
        "What the kernel counts against the limit. At the limit it ends the process; a ticket at 90 %.",
        [
            query(f"max by (pod) (container_memory_working_set_bytes{{{_PODS}}})", "{{pod}}"),
            query(f'min(kube_pod_container_resource_limits{{{_PODS}, resource="memory"}})', "limit"),
        ],
        "bytes",
    )
    yield lines(
        "Processors by pod",
        "Beyond the limit a pod is made to wait.",
        [
            query(
                f"sum by (pod) (rate(container_cpu_usage_seconds_total{{{_PODS}}}[$__rate_interval]))",
                "{{pod}}",
            ),
            query(f'min(kube_pod_container_resource_limits{{{_PODS}, resource="cpu"}})', "limit"),
        ],
        "short",
        decimals=2,
    )
    yield lines(
        "Made to wait for the processor",
        "Share of the kernel's periods of 100 ms in which a pod had used up its limit: the cause of "
        "slow calls "
        "that no phase explains.",
        query(
            f"sum by (pod) (rate(container_cpu_cfs_throttled_periods_total{{{_PODS}}}[$__rate_interval]))"
            f" / sum by (pod) (rate(container_cpu_cfs_periods_total{{{_PODS}}}[$__rate_interval]))",
            "{{pod}}",
        ),
        "percentunit",
    )
    scaler = 'namespace=~"$namespace", horizontalpodautoscaler=~"$job"'
    yield lines(
        "Autoscaler",
        "Pods that there are, that it wants, and that it may have. A ticket when it wants all for 15 "
        "minutes.",
        [
            query(
                f"max by (horizontalpodautoscaler) (kube_horizontalpodautoscaler_{metric}{{{scaler}}})",
                "{{horizontalpodautoscaler}}: " + name,
            )
            for metric, name in (
                ("status_current_replicas", "current"),
                ("status_desired_replicas", "wanted"),
                ("spec_max_replicas", "most"),
            )
        ],
        "short",
        decimals=0,
    )
    yield lines(
        "Pods by version",
        "Servers by the version of the model that they serve: a rollout, or a rollback, as it goes.",
        query(f"sum by (job, model, version) (model_ready{{{_CALLS}}})", "{{job}}: {{model}} {{version}}"),
        "short",
        stacked=True,
        decimals=0,
    )
    deployment = 'namespace=~"$namespace", deployment=~"$job"'
    yield lines(
        "Rollout",
        "Pods of each Deployment: of the newest template, and not available.",
        [
            query(
                f"max by (deployment) (kube_deployment_status_replicas_{each}{{{deployment}}})",
                "{{deployment}}: " + each,
            )
            for each in ("updated", "unavailable")
        ],
        "short",
        decimals=0,
    )
    yield lines(
        "Restarts",
        "Times that Kubernetes started a server anew, within an hour. A page at more than two in 15 minutes.",
        query(f"sum by (pod) (increase(kube_pod_container_status_restarts_total{{{_PODS}}}[1h]))", "{{pod}}"),
        "short",
        decimals=0,
    )
    yield lines(
        "Audit records",
        "Records that the audit log has taken, and those that a best-effort one has dropped, a second.",
        [
            query(f"sum(rate(forest_audit_{each}_total{{{_CALLS}}}[$__rate_interval]))", each)
            for each in ("records", "dropped")
        ],
        "cps",
    )
    yield lines(
        "Audit log's growth",
        "Bytes a second, by server.",
        query(
            f"sum by (instance) (rate(forest_audit_bytes_total{{{_CALLS}}}[$__rate_interval]))",
            "{{instance}}",
        ),
        "Bps",
    )
    yield lines(
        "Memory of processes",
        "Resident memory of each server, all its workers together, as it tells itself: pages that "
        "workers share "
        "count once for each.",
        query(f"max by (instance) (process_resident_memory_bytes{{{_CALLS}}})", "{{instance}}"),
        "bytes",
    )
    yield lines(
        "Processors used",
        "Of each server, all its workers together, as it tells itself.",
        query(
            f"sum by (instance) (rate(process_cpu_seconds_total{{{_CALLS}}}[$__rate_interval]))",
            "{{instance}}",
        ),
        "short",
        decimals=2,
    )
    yield lines(
        "Open files",
        "Share of those that it may open: connections are files.",
        query(
            f"max by (instance) (process_open_fds{{{_CALLS}}} / process_max_fds{{{_CALLS}}})", "{{instance}}"
        ),
        "percentunit",
    )
    yield lines(
        "Time of a scrape",
        "How long each server took to tell its metrics.",
        query(f"max by (instance) (scrape_duration_seconds{{{_CALLS}}})", "{{instance}}"),
        "s",
    )
    yield table(
        "Builds",
        "What runs: versions of the server and of what it stands on.",
        f"count by (job, version, python, grpcio, onnxruntime) (forest_build_info{{{_CALLS}}})",
        {
            "job": "Server",
            "version": "Version",
            "python": "Python",
            "grpcio": "grpcio",
            "onnxruntime": "ONNX Runtime",
            "Value": "Servers",
        },
    )


def _variable(name: str, label: str, question: str, everything: str = ".*") -> Json:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": question, "refId": name},
        "definition": question,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": everything,
        "current": {"text": ["All"], "value": ["$__all"]},
    }


_NAMESPACE = _variable("namespace", "Namespace", "label_values(forest_build_info, namespace)")
_SERVER = _variable(
    "job", "Server", 'label_values(forest_build_info{namespace=~"$namespace"}, job)', "(.+-)?forest"
)
_OF_MODELS = (
    _variable("model", "Model", 'label_values(model_info{namespace=~"$namespace"}, model)'),
    _variable(
        "version", "Version", 'label_values(model_info{namespace=~"$namespace", model=~"$model"}, version)'
    ),
)


def _placed(panels: Iterator[Json]) -> Iterator[Json]:
    """Yield the panels with their numbers and places, line by line."""
    x = y = 0
    for number, each in enumerate(panels, 1):
        place = each["gridPos"]
        if x + place["w"] > 24:
            raise ValueError(f"{each['title']}: {24 - x} columns are left in its line")
        yield {"id": number} | each | {"gridPos": {"x": x, "y": y} | place}
        x += place["w"]
        if x == 24:
            x, y = 0, y + place["h"]


def dashboard(
    uid: str, title: str, description: str, variables: Sequence[Json], panels: Iterator[Json]
) -> Json:
    """Return a dashboard as Grafana reads it."""
    source = {"name": "datasource", "label": "Source", "type": "datasource", "query": "prometheus"}
    return {
        "uid": uid,
        "title": f"Forest: {title}",
        "description": description,
        "tags": ["forest-serving"],
        "schemaVersion": 41,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [source, _NAMESPACE, *variables]},
        "annotations": {"list": []},
        # From each to the others, with the time and the choice kept.
        "links": [
            {
                "title": "Forest",
                "type": "dashboards",
                "tags": ["forest-serving"],
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "panels": list(_placed(panels)),
    }


DASHBOARDS = (
    dashboard(
        "forest-service",
        "service",
        "How calls go: rate, latency, errors, and what is promised.",
        [_SERVER],
        service(),
    ),
    dashboard(
        "forest-model",
        "models",
        "What models say, how good they were, and which they are.",
        _OF_MODELS,
        model(),
    ),
    dashboard(
        "forest-drift",
        "drift",
        "Whether what comes is like what models were trained on.",
        _OF_MODELS,
        drift(),
    ),
    dashboard(
        "forest-capacity",
        "capacity",
        "What servers use of what they have, and how rollouts go.",
        [_SERVER],
        capacity(),
    ),
)


def prometheus_rule() -> Json:
    """Return all of rules/ as the object that Prometheus' operator reads."""
    groups = [
        group
        for file in sorted((_HERE / "rules").glob("*.yaml"))
        for group in yaml.safe_load(file.read_text())["groups"]
    ]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "forest"},
        "spec": {"groups": groups},
    }


def files() -> Mapping[Path, str]:
    """Return what each file that is made from here holds."""
    folder = _HERE / "grafana" / "dashboards"
    made = {
        folder / f"{each['uid'].removeprefix('forest-')}.json": json.dumps(each, indent=2) + "\n"
        for each in DASHBOARDS
    }
    rule = yaml.safe_dump(prometheus_rule(), sort_keys=False, width=10_000)
    made[_HERE / "prometheusrule.yaml"] = "# Made of rules/ by `make monitoring`.\n" + rule
    return made


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)
