"""The strict parser of OpenMetrics of Prometheus's Python client: python3 openmetrics.py < TEXT

Prints each sample as one line of JSON; ends with an error if the text breaks a rule.
"""

import json
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families

for family in text_string_to_metric_families(sys.stdin.read()):
    for sample in family.samples:
        exemplar = sample.exemplar and {
            "labels": sample.exemplar.labels,
            "value": sample.exemplar.value,
            "timestamp": float(sample.exemplar.timestamp),
        }
        value = sample.value if sample.value == sample.value else None
        line = {
            "family": family.name,
            "type": family.type,
            "unit": family.unit,
            "name": sample.name,
            "labels": sample.labels,
            "value": value,
            "exemplar": exemplar,
        }
        print(json.dumps(line))
