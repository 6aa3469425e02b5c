{# An instant some minutes later. #}
{% macro add_minutes(instant, minutes) %}
    {{- adapter.dispatch('add_minutes')(instant, minutes) -}}
{% endmacro %}

{% macro duckdb__add_minutes(instant, minutes) %}
    {{- instant }} + to_minutes({{ minutes }})
{%- endmacro %}

{% macro bigquery__add_minutes(instant, minutes) -%}
    timestamp_add({{ instant }}, interval {{ minutes }} minute)
{%- endmacro %}
