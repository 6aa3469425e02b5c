{#
    The days of this run: {'from': 'YYYY-MM-DD', 'to': 'YYYY-MM-DD'}, both inclusive, or none for all days. Of tables
    that are cut by name, the first and the last name.

    The vars differ from run to run while the manifest is kept, so nothing may ask for the range when dbt parses:
    outside of execution there is none.
#}
{% macro partition_range() %}
    {%- if not execute -%}
        {%- do return(none) -%}
    {%- endif -%}
    {%- set first = var('partition_from', none) -%}
    {%- set last = var('partition_to', none) -%}
    {%- if first is none and last is none -%}
        {%- do return(none) -%}
    {%- endif -%}
    {%- if first is none or last is none -%}
        {%- do exceptions.raise_compiler_error('partition_from and partition_to go together: give both or none') -%}
    {%- endif -%}
    {%- for day in [first, last] if not is_day(day) and not modules.re.fullmatch('[A-Za-z0-9][A-Za-z0-9_.-]*', day | string) -%}
        {%- do exceptions.raise_compiler_error('neither an ISO date (YYYY-MM-DD) nor a name: ' ~ day) -%}
    {%- endfor -%}
    {%- if is_day(first) != is_day(last) -%}
        {%- do exceptions.raise_compiler_error('partition_from ' ~ first ~ ' and partition_to ' ~ last ~ ' are not of one kind') -%}
    {%- endif -%}
    {%- if first | string > last | string -%}
        {%- do exceptions.raise_compiler_error('partition_from ' ~ first ~ ' is after partition_to ' ~ last) -%}
    {%- endif -%}
    {%- if flags.FULL_REFRESH -%}
        {%- do exceptions.raise_compiler_error('--full-refresh rebuilds all days: give it no partition range') -%}
    {%- endif -%}
    {%- do return({'from': first | string, 'to': last | string}) -%}
{% endmacro %}

{# Whether a partition is a day: written as one. No name of a partition may be. #}
{% macro is_day(partition) %}
    {%- do return(modules.re.fullmatch('\d{4}-\d{2}-\d{2}', partition | string) is not none) -%}
{% endmacro %}
