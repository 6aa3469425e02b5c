{#
    An exact percentile of a group: the smallest value that at least `percent` percent of the values don't exceed.
    It is always one of the values, hence the same number on every engine. Nulls are ignored.
#}
{% macro percentile(expression, percent) %}
    {{- adapter.dispatch('percentile')(expression, percent) -}}
{% endmacro %}

{% macro duckdb__percentile(expression, percent) -%}
    quantile_disc({{ expression }}, {{ percent / 100 }})
{%- endmacro %}

{% macro bigquery__percentile(expression, percent) -%}
    array_agg({{ expression }} ignore nulls order by {{ expression }})[
        safe_offset(div({{ percent }} * count({{ expression }}) + 99, 100) - 1)
    ]
{%- endmacro %}
