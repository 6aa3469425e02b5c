{#
    The predicate "this day belongs to the run": constants only, so that engines prune partitions. Where all days do, it
    still says something of the column: a BigQuery table may require that.
#}
{% macro in_partition_range(field) %}
    {%- set days = partition_range() -%}
    {%- if days -%}
        {{ field }} between date '{{ days['from'] }}' and date '{{ days['to'] }}'
    {%- else -%}
        ({{ field }} is null or {{ field }} is not null)
    {%- endif -%}
{% endmacro %}
