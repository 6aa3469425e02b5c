{#
    The predicate "this day, or name, belongs to the run": constants only, so that engines prune partitions. Where all
    do, it still says something of the column: a BigQuery table may require that.
#}
{% macro in_partition_range(field) %}
    {%- set days = partition_range() -%}
    {%- if days -%}
        {%- set kind = 'date ' if is_day(days['from']) else '' %}
        {{ field }} between {{ kind }}'{{ days['from'] }}' and {{ kind }}'{{ days['to'] }}'
    {%- else -%}
        ({{ field }} is null or {{ field }} is not null)
    {%- endif -%}
{% endmacro %}
