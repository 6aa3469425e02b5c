{# The predicate "this day belongs to the run": constants only, so that engines prune partitions. #}
{% macro in_partition_range(field) %}
    {%- set days = partition_range() -%}
    {%- if days -%}
        {{ field }} between date '{{ days['from'] }}' and date '{{ days['to'] }}'
    {%- else -%}
        true
    {%- endif -%}
{% endmacro %}
