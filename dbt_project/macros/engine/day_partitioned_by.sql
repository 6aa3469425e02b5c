{# The value of `partition_by`: a table partitioned by day where the engine has such (DuckDB has none). #}
{% macro day_partitioned_by(field) %}
    {%- do return(adapter.dispatch('day_partitioned_by')(field)) -%}
{% endmacro %}

{% macro duckdb__day_partitioned_by(field) %}
    {%- do return(none) -%}
{% endmacro %}

{% macro bigquery__day_partitioned_by(field) %}
    {%- do return({'field': field, 'data_type': 'date', 'granularity': 'day'}) -%}
{% endmacro %}
